"""What each path costs over its whole life: `python -m scorecard [--price-per-hour 0.10 --currency EUR]`.

Starts each service five times, looks at its memory, loads its paths directly and through the gateway, and adds
scorecard.json to the newest run, or to the one named. No service may run before; none runs afterwards.
Exit code 0 when the scorecard is written, 1 when a service or the load fails, 2 for a bad argument, 130 after Ctrl-C;
the run is then as it was.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from commandline.arguments import Parser, positive, seconds, whole
from commandline.endings import interruptible
from scorecard import gpu, worth
from scorecard.card import card
from scorecard.load import LoadError, Plan
from scorecard.program import Bench, backends_of, front, lives, refuse_running
from scorecard.starts import Name
from scorecard.worth import Price
from services.local.config import SERVICES, ConfigError, Places, read_services
from services.local.probe import WrongAnswer
from services.local.processes import RunError, lock
from services.wire.stacks import STACKS
from store import atomic
from store.commit import git_commit
from store.manifest import ArtefactError

ENV_FILE = Path(".env")
EPILOG = (
    "exit codes: 0 scorecard.json is written; 1 a service or the load failed; 2 a bad argument; 130 after Ctrl-C; "
    "the run is as it was then"
)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exit code 2 and one line when it is wrong."""
    about = "What each path costs over its whole life."
    parser = Parser(prog="python -m scorecard", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("run", nargs="?", type=Path, default=Path("results/latest"), help="the run to add to (default: results/latest)")
    add("--paths", default="all", help="MODEL@STACK,... or all (default)")
    add("--starts", type=whole(1), default=5, help="new processes of each service (default: 5)")
    add("--rate", type=positive, default=500.0, help="requests a second of the load (default: 500)")
    add("--duration", type=seconds, default=1.35, help="seconds of each of a path's three blocks (default: 1.35)")
    add("--quiet", type=seconds, default=3.0, help="seconds without requests before idle memory is read (default: 3)")
    add("--price-per-hour", type=positive, help="what an hour of this machine costs, with --currency")
    add("--currency", help="in which currency, such as EUR")
    add("--run-dir", type=Path, default=Path(".run"), help="folder of pid and log files (default: .run)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="default: deployments.toml")
    asked = parser.parse_args(words)
    if (asked.price_per_hour is None) != (not asked.currency):
        parser.error("--price-per-hour and --currency belong together")
    asked.price = Price(asked.price_per_hour, asked.currency) if asked.currency else None
    asked.places = Places(asked.run_dir.resolve(), asked.exports, asked.deployments)
    try:
        asked.names = choose(asked.deployments, asked.paths)
    except ValueError as error:
        parser.error(str(error))
    return asked


def choose(deployments: Path, wanted: str) -> list[Name]:
    """Give the paths of deployments.toml, all or those of a comma-separated list. Raises ValueError."""
    try:
        models = tomllib.loads(deployments.read_text())["models"]
        known = {f"{model}@{stack}": (model, stack) for model, entry in models.items() for stack in entry["stacks"]}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{deployments} is no list of paths ({error!r}); see docs/add-a-path.md") from error
    names = list(known) if wanted == "all" else [name.strip() for name in wanted.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--paths: {unknown[0]!r} is no path; known: {', '.join(known)}, or all")
    return [known[name] for name in dict.fromkeys(names)]


def run_folder(run: Path) -> Path:
    """Give the run's own folder: a link to the newest may point elsewhere later. Raises RunError."""
    if not (run / "run.json").is_file():
        raise RunError(f"{run} holds no run to add to; run: make loadtest")
    return run.resolve()


def measure(asked: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, and give the content of scorecard.json. Raises what main() names."""
    capacity = worth.read_capacity(asked.run)
    services = read_services(asked.places, ENV_FILE)
    words = ("--deployments", str(asked.deployments), "--exports", str(asked.exports))
    plan = Plan(asked.rate, asked.duration, words, services[SERVICES[0]].environment)
    bench = Bench(services, asked.places, plan, gpu.find(), asked.starts, asked.quiet, console)
    backends = backends_of(asked.names)
    with lock(asked.places.run_dir):
        refuse_running(asked.places)
        alone, fronted = lives(bench, backends), front(bench, backends)
    cards = []
    for path in asked.names:
        service = STACKS[path[1]].service
        figures = list(worth.figures(capacity, path, asked.price))
        cards.append(card(path, services[service], alone[service], fronted, figures))
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    return {"measured": measured, "git_commit": git_commit(), "rate_rps": asked.rate, "scorecard": cards}


def main(words: Sequence[str]) -> int:
    """Measure, add to the run, give the exit code."""
    asked = arguments(words)
    begin, console = time.monotonic(), Console()
    try:
        file = run_folder(asked.run) / "scorecard.json"
        atomic.write_file(file, json.dumps(measure(asked, console), indent=2) + "\n")
    except (ConfigError, RunError, WrongAnswer, ArtefactError, LoadError, ValueError, OSError) as error:
        print(f"python -m scorecard: {error}", file=sys.stderr)
        return 1
    print(f"{file}: {len(asked.names)} paths, in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(
        interruptible(
            lambda: main(sys.argv[1:]),
            "python -m scorecard: interrupted; what it started is stopped, the run is as it was",
        )
    )
