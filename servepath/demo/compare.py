"""From a model's file to a verdict: `servepath compare PATH`: import it, serve it, load every path, say what to take.

All of it happens beside what is deployed: in artifacts/compare/NAME, with services that end with the comparison. The
rate keeps the slowest path busy for half of its time, unless --rate says another. Exit code 0 when every answer was
correct, 1 when a stage failed, 130 after Ctrl-C. On a machine too busy to measure on it is 0, too: the last lines say
that the times prove nothing, and why.
"""

import argparse
import json
import math
import re
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.names import ModelNameError, model_name
from servepath.artifacts.reference import read_reference
from servepath.cli.arguments import Parser, positive
from servepath.cli.signals import run_main
from servepath.client import Client, PredictError
from servepath.demo.stages import Stage, StageFailed, run, stop
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS
from servepath.protocols.stacks import PATH_STACKS, REDUCED_PRECISIONS
from servepath.results.names import key_of
from servepath.results.thresholds import MIN_REQUESTS, UNTRUSTED
from servepath.runner.config import GATEWAY, RunPaths, read_services
from servepath.settings import SettingsError

FOLDER = Path("artifacts/compare")
SUMMARY = Path("results/latest/summary.json")
# One more than a verdict needs at least (report.verdicts.MIN_ROUNDS).
ROUNDS = 12
# The load keeps the slowest path busy for this share of the time.
BUSY = 0.5
MAX_RATE = 500.0
PILOT_CALLS, PILOT_WARMUP, PILOT_S = 10, 3, 60.0
SHORTEST_S = 1.35
LONGEST_WARMUP_S = 10.0
# Of a verdict that says which of its two is faster.
SIDES = frozenset({"a", "b"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """The command line of `servepath compare`."""

    path: Path
    name: str | None
    spec: Path | None
    rate: float | None
    minutes: float
    precision: Sequence[str]
    trust_code: bool


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a comparison is made: its store, its deployments and its services' files."""

    name: str

    @property
    def folder(self) -> Path:
        """Return the folder of all of it."""
        return FOLDER / self.name

    @property
    def deployments(self) -> Path:
        """Return the deployments file, which is written for each comparison."""
        return self.folder / "deployments.toml"

    @property
    def exports(self) -> Path:
        """Return the store."""
        return self.folder / "exports"

    def words(self) -> list[str]:
        """Return the options that the programs here share."""
        return ["--exports", str(self.exports), "--deployments", str(self.deployments)]

    def stacks(self) -> list[str]:
        """Return the stacks that the import found a path on."""
        return list(tomllib.loads(self.deployments.read_text())["models"][self.name]["stacks"])


def parse_args(argv: Sequence[str]) -> CompareOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="a model's file or folder: see servepath import --help")
    add("--name", type=model_name, help="what the model is called (default: from PATH)")
    add("--spec", type=Path, metavar="FILE", help="what the file cannot say: see servepath import --help")
    add("--rate", type=positive, help="requests a second on each path (default: found by a pilot)")
    add(
        "--minutes",
        type=positive,
        default=3.0,
        help="of load in all, at least (default: 3); slow models take longer: every path gets 1,000 requests",
    )
    precision = "add a path of a reduced precision, to be compared with the others: see servepath import --help"
    add("--precision", action="append", choices=REDUCED_PRECISIONS, default=[], help=precision)
    add("--trust-code", action="store_true", help="let code in the file run: see servepath import --help")
    return parser.read(CompareOptions, argv)


def stages(options: CompareOptions, console: Console) -> Workplace:
    """Run all stages. Raises StageFailed."""
    place = Workplace(options.name or name_of(options.path))
    place.folder.mkdir(parents=True, exist_ok=True)
    write_file(place.deployments, f"[gateway]\nmax_tensors = {MAX_TENSORS}\nmax_rank = {MAX_RANK}\n")
    into = ["--out", str(place.exports), "--deployments", str(place.deployments)]
    said = [*(["--spec", str(options.spec)] if options.spec else []), *(["--trust-code"] if options.trust_code else [])]
    said += [f"--precision={precision}" for precision in options.precision]
    run(Stage("import", ["export.importing", str(options.path), "--name", place.name, *into, *said]), console)
    with services(place, console) as gateway:
        paths = [f"{place.name}@{stack}" for stack in place.stacks()]
        rate = options.rate or pilot(gateway, place, paths, console)
        load = load_arguments(rate, options.minutes, len(paths))
        words = ["loadtest", "--paths", ",".join(paths), "--via", "gateway", *place.words(), *load]
        words += ["--allow=precision"] if options.precision else []
        run(Stage("load test", words), console)
        run(Stage("report", ["report"], (0, UNTRUSTED)), console)
    return place


def name_of(path: Path) -> str:
    """Return a model's name made of a file's: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", path.resolve().stem).lstrip("._-") or "model"


@contextmanager
def services(place: Workplace, console: Console) -> Iterator[str]:
    """Start the services that the paths need, yield the gateway's address, and stop them, whatever happens."""
    names = [PATH_STACKS[stack].service for stack in place.stacks()] + [GATEWAY]
    run_dir = (place.folder / "run").resolve()
    own = ["--run-dir", str(run_dir), *place.words()]
    found = read_services(RunPaths(run_dir, place.exports, place.deployments), Path(".env"))
    try:
        run(Stage("start", ["servepath.runner", "up", *own, *names]), console)
        yield found[GATEWAY].address
    finally:
        stop([*own, *names], console)


def pilot(gateway: str, place: Workplace, paths: Sequence[str], console: Console) -> float:
    """Return the rate that keeps the slowest path busy for half of its time. Raises StageFailed."""
    asked = read_reference(place.exports, place.name).first_inputs()
    slowest_s = 0.0
    with Client(gateway) as client:
        for path in paths:
            try:
                took_s = statistics.median([_timed(client, path, asked) for _ in range(PILOT_CALLS)][PILOT_WARMUP:])
            except PredictError as error:
                raise StageFailed(f"the pilot of {path}: {error}") from error
            console.print(f"{path}: {1000 * took_s:,.2f} ms per request, one at a time", highlight=False)
            slowest_s = max(slowest_s, took_s)
    return min(MAX_RATE, BUSY / slowest_s)


def _timed(client: Client, path: str, asked: Mapping[str, Any]) -> float:
    begin = time.perf_counter()
    client.predict(path, asked, timeout_s=PILOT_S)
    return time.perf_counter() - begin


def load_arguments(rate: float, minutes: float, paths: int) -> list[str]:
    """Return the load test's arguments: ROUNDS of every path and the no-op server, and MIN_REQUESTS on each path."""
    duration_s = max(SHORTEST_S, 60 * minutes / (ROUNDS * (paths + 1)), MIN_REQUESTS / (ROUNDS * rate))
    words = {
        "rounds": f"{ROUNDS}",
        "rate": f"{rate:.4g}",
        "duration": f"{duration_s:.4g}",
        "min-requests": f"{math.ceil(MIN_REQUESTS / ROUNDS)}",
        "warmup": f"{min(LONGEST_WARMUP_S, duration_s):g}",
    }
    return [f"--{name}={value}" for name, value in words.items()]


def conclude(summary: Mapping[str, Any]) -> list[str]:
    """Return what to take, or which paths nothing beats, and why; engines are named, since one may be a stand-in."""
    rows = sorted(summary["paths"], key=lambda row: row["response_p50_ms"] or float("inf"))
    best = rows[0]
    if len(rows) == 1:
        said = f"{_name(best)} is the only path that can serve it: p50 {best['response_p50_ms']:.3g} ms"
        return [f"{said} at {best['rate_rps']:g} requests/s"]
    decided = [each for each in summary["verdicts"] if each["verdict"] in SIDES and each["metric"] == "p50"]
    wins = Counter(each[each["verdict"]] for each in decided)
    beaten = {each["a" if each["verdict"] == "b" else "b"] for each in decided}
    unbeaten = [row for row in rows if _key(row) not in beaten] or rows
    best, sentences = unbeaten[0], [each["sentence"] for each in decided]
    at = f"at {best['rate_rps']:g} requests/s through the gateway"
    if wins[_key(best)] == len(rows) - 1:
        return [f"take {_name(best)}: p50 {best['response_p50_ms']:.3g} ms {at}", *sentences]
    listed = ", ".join(f"{_name(row)} {row['response_p50_ms']:.3g} ms" for row in unbeaten)
    return [f"no path is clearly the fastest {at}: p50 {listed}; more --minutes may decide it", *sentences]


def _key(row: Mapping[str, Any]) -> str:
    return key_of(f"{row['model']}@{row['stack']}", row["via"])


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['model']}@{row['stack']} [{row['engine']} {row['engine_version']}]"


def settings(place: Workplace) -> list[str]:
    """Return the gateway's limits under which the paths were measured, a line for those that share them."""
    lines: dict[str, list[str]] = {}
    for (model, stack), limits in read_deployments(place.deployments).paths.items():
        words = ", ".join(f"{each.name} {getattr(limits, each.name)}" for each in fields(limits))
        lines.setdefault(words, []).append(f"{model}@{stack}")
    return [f"measured with {words}: {', '.join(paths)}" for words, paths in lines.items()]


def main(argv: Sequence[str]) -> int:
    """Compare, print the recommendation, return the exit code."""
    options = parse_args(argv)
    console = Console()
    try:
        place = stages(options, console)
    except (StageFailed, ModelNameError, ArtifactError, SettingsError, OSError) as failure:
        console.print(f"compare failed: {failure}", style="bold red", highlight=False, markup=False)
        return 1
    summary = json.loads(SUMMARY.read_text())
    for line in conclude(summary):
        console.print(line, style="bold green", highlight=False, markup=False)
    for line in (*settings(place), f"other rates, machines and versions may change it; the store is {place.exports}"):
        console.print(line, highlight=False)
    for reason in summary["reasons"]:
        console.print(f"but the times are not valid: {reason}", style="bold yellow", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:]), "compare interrupted; the services that it started are stopped"))
