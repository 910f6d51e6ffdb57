"""What each path costs over its whole life: `python -m loadtest.cost [--price-per-hour 0.10 --currency EUR]`.

Starts each service five times, looks at its memory, loads its paths directly and through the gateway, and adds
scorecard.json to the newest run, or to the one named. No service may run before; none runs afterwards.
Exit code 0 when the scorecard is written, 1 when a service or the load fails, 2 for a bad argument, 130 after Ctrl-C;
the run is then as it was.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.cost import gpu, price
from loadtest.cost.card import card
from loadtest.cost.earlier import read_earlier
from loadtest.cost.load import ROUNDS, LoadError, Plan, refuse_other_requests
from loadtest.cost.price import Price
from loadtest.cost.program import Bench, backends_of, front, lives, refuse_running
from loadtest.loaded_run import LoadedRun
from loadtest.plan import ServingPath, choose, read_own_paths
from servepath.artifacts import atomic
from servepath.artifacts.commit import git_commit
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, positive, seconds, whole
from servepath.cli.signals import run_main
from servepath.protocols.probes import WrongAnswer
from servepath.protocols.stacks import PATH_STACKS
from servepath.results.names import COST_FILE, RUN_FILE
from servepath.runner.config import SERVICES, RunPaths, read_services
from servepath.runner.processes import RunError, lock
from servepath.runner.tuned import FOLDER, use_tuned
from servepath.settings import SettingsError

ENV_FILE = Path(".env")
EPILOG = (
    "exit codes: 0 scorecard.json is written; 1 a service or the load failed; 2 a bad argument; 130 after Ctrl-C; "
    "the run is as it was then"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostOptions:
    """The command line of `python -m loadtest.cost`, its paths read from deployments.

    rate: None for the run's. price: None for that of the earlier scorecard. tuned: as of `servepath up`.
    """

    run: Path
    names: Sequence[ServingPath]
    starts: int
    rounds: int
    rate: float | None
    duration: float
    quiet: float
    price: Price | None
    run_paths: RunPaths
    tuned: Path | None


def parse_args(argv: Sequence[str]) -> CostOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    about = "The cost of each path over its life cycle."
    parser = Parser(prog="servepath cost", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("run", nargs="?", type=Path, default=Path("results/latest"), help="the run to add to (default: results/latest)")
    add("--paths", default="all", help="MODEL@STACK,... or all (default), of the services that this repository starts")
    add("--starts", type=whole(1), default=5, help="new processes of each service (default: 5)")
    add("--rounds", type=whole(2), default=ROUNDS, help="measurements of each path and way (default: 3)")
    add("--rate", type=positive, help="requests a second of the load (default: that of the run)")
    add("--duration", type=seconds, default=1.35, help="seconds of each measurement (default: 1.35)")
    add("--quiet", type=seconds, default=3.0, help="seconds without requests before idle memory is read (default: 3)")
    hour = "what an hour of this machine costs, with --currency (default: what the run's scorecard says already)"
    add("--price-per-hour", type=positive, help=hour)
    add("--currency", help="currency, such as EUR")
    add("--tuned", action="store_true", help="start services with the settings that servepath tune found")
    add("--tuned-folder", type=Path, default=FOLDER, help=f"where they are (default: {FOLDER})")
    add("--run-dir", type=Path, default=Path(".run"), help="folder of pid and log files (default: .run)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="default: deployments.toml")
    args = parser.parse_args(argv)
    if (args.price_per_hour is None) != (not args.currency):
        parser.error("--price-per-hour and --currency must be given together")
    try:
        names = choose(read_own_paths(args.deployments), args.paths)
    except ValueError as error:
        parser.error(f"--paths: {error}")
    except SettingsError as error:
        parser.error(str(error))
    return CostOptions(
        run=args.run,
        names=names,
        starts=args.starts,
        rounds=args.rounds,
        rate=args.rate,
        duration=args.duration,
        quiet=args.quiet,
        price=Price(args.price_per_hour, args.currency) if args.currency else None,
        run_paths=RunPaths(args.run_dir.resolve(), args.exports, args.deployments),
        tuned=args.tuned_folder if args.tuned else None,
    )


def run_folder(run: Path) -> Path:
    """Return the run's own folder: a link to the newest may point elsewhere later. Raises RunError."""
    if not (run / RUN_FILE).is_file():
        raise RunError(f"{run} holds no run; run: make loadtest")
    return run.resolve()


def measure(options: CostOptions, console: Console) -> dict[str, Any]:
    """Measure, and return the content of scorecard.json. Raises what main() names."""
    run = LoadedRun.read(options.run)
    refuse_other_requests(run, options.run_paths.exports, {path.model for path in options.names})
    capacity, earlier = price.read_capacity(options.run), read_earlier(options.run / COST_FILE)
    declared, rate = options.price or earlier.price, options.rate or run.rate_rps
    refuse_running(options.run_paths)
    used = use_tuned(options.tuned, options.run_paths, SERVICES, console.print) if options.tuned else os.environ
    services = read_services(options.run_paths, ENV_FILE, used)
    words = ("--deployments", str(options.run_paths.deployments), "--exports", str(options.run_paths.exports))
    plan = Plan(rate, options.duration, words, services[SERVICES[0]].environment, run, options.rounds)
    bench = Bench(services, options.run_paths, plan, gpu.find(), options.starts, options.quiet, console)
    backends = backends_of(options.names)
    with lock(options.run_paths.run_dir):
        refuse_running(options.run_paths)
        alone, fronted = lives(bench, backends), front(bench, backends)
    cards = []
    for path in options.names:
        service = PATH_STACKS[path[1]].service
        measured_by = {"direct": alone[service].measurements, "gateway": fronted.measurements}
        settings = {
            via: next(one.settings for one in found if one.path == tuple(path)) for via, found in measured_by.items()
        }
        figures = list(price.figures(capacity, path, declared, settings))
        cards.append(card(path, services[service], alone[service], fronted, figures))
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    said = {} if declared is None else {"price": declared._asdict()}
    about = {"measured": measured, "git_commit": git_commit(), "rate_rps": rate, **said}
    for text in earlier.gone(about, cards, run):
        bench.say(text)
    stay = [price.priced_again(each, capacity, declared) for each in earlier.kept(about, cards, run)]
    return {**about, "scorecard": [*stay, *cards]}


def main(argv: Sequence[str]) -> int:
    """Measure, add to the run, return the exit code."""
    options = parse_args(argv)
    begin, console = time.monotonic(), Console()
    try:
        options = replace(options, run=run_folder(options.run))
        file = options.run / COST_FILE
        atomic.write_file(file, json.dumps(measure(options, console), indent=2) + "\n")
    except (SettingsError, RunError, WrongAnswer, ArtifactError, LoadError, ValueError, OSError) as error:
        print(f"servepath cost: {error}", file=sys.stderr)
        return 1
    print(f"{file}: {len(options.names)} paths, in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(
        run_main(
            lambda: main(sys.argv[1:]),
            "servepath cost: interrupted; the services that it started are stopped, the run is unchanged",
        )
    )
