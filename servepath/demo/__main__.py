"""From nothing but an environment to a comparison: `python -m servepath.demo [--rate 500] [--rounds 3]`.

Trains, exports, starts what does not run, predicts once on each path, loads them, reports, and stops what it started.
Exit code 0 only if every path returned correct responses; 1 if a stage failed, 130 after Ctrl-C. Right answers on a
machine too busy to measure on pass too: the last lines then say that the times prove nothing, and why.
"""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.reference import Reference, read_reference
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import run_main
from servepath.demo import compare
from servepath.demo.stages import Stage, StageFailed, output, run, stop
from servepath.results.thresholds import MIN_REQUESTS, UNTRUSTED
from servepath.runner.config import SERVICES
from servepath.runner.processes import ServiceFiles, main_process

RUN_DIR = Path(".run")
SUMMARY = Path("results/latest/summary.json")
EXPORTS = Path("artifacts/exports")
RATE, DURATION_S, ROUNDS = 500.0, 0.8, 3
# The longest that a path is waited for to be stable; `make loadtest` waits longer.
WARMUP_S = 2.0
# For one row of a model that may be slow.
PREDICT_S = "60"
# What one word of a command line may have on Linux.
LONGEST_WORD = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The command line of `python -m servepath.demo`."""

    rate: float | None
    duration: float | None
    rounds: int | None
    model: Path | None


def parse_args(argv: Sequence[str]) -> DemoOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath demo", description="Train, export, serve, predict, load, compare.")
    add = parser.add_argument
    add(
        "--rate",
        type=positive,
        help=f"requests a second on each path (default: {RATE:g}; of --model: found by a pilot)",
    )
    add("--duration", type=positive, help=f"seconds in each measurement (default: {DURATION_S:g})")
    add("--rounds", type=whole(1), help=f"rounds, with one measurement of each path (default: {ROUNDS})")
    add("--model", type=Path, metavar="PATH", help="a model's file or folder instead: what servepath compare PATH does")
    options = parser.read(DemoOptions, argv)
    if options.model and (options.duration or options.rounds):
        parser.error("--duration and --rounds: not beside --model; servepath compare PATH --minutes says how long")
    return options


@contextmanager
def services(console: Console) -> Iterator[None]:
    """Start what does not run, and stop exactly that in the end, whatever happens."""
    ran = {name for name in SERVICES if main_process(ServiceFiles(RUN_DIR.resolve(), name))}
    started = [name for name in SERVICES if name not in ran]
    try:
        run(Stage("start", ["servepath.runner", "up"]), console)
        yield
    finally:
        if started:
            stop(started, console)


def stages(options: DemoOptions, console: Console) -> None:
    """Run all stages. Raises StageFailed."""
    run(Stage("train", ["training"]), console)
    run(Stage("export", ["export"]), console)
    with services(console):
        found = json.loads(output(Stage("list paths", ["client", "paths", "--json"])))["paths"]
        models = {path["name"]: path["model"] for path in found}
        references = references_of(models.values())
        for path, model in models.items():
            predict(path, references[model], console)
        same = comparable(list(references.values()))
        if others := [path for path, model in models.items() if model not in same]:
            said = f"not loaded, since their models compute something else: {', '.join(others)}"
            console.print(said, style="bold yellow", highlight=False, markup=False, soft_wrap=True)
        paths = ",".join(path for path, model in models.items() if model in same)
        run(Stage("load test", ["loadtest", "--paths", paths, *load_arguments(options)]), console)
        run(Stage("report", ["report"], (0, UNTRUSTED)), console)


def references_of(models: Iterable[str]) -> dict[str, Reference]:
    """Return the reference of each model. Raises StageFailed."""
    try:
        return {model: read_reference(EXPORTS, model) for model in dict.fromkeys(models)}
    except ArtifactError as error:
        raise StageFailed(str(error)) from error


def predict(path: str, reference: Reference, console: Console) -> None:
    """Predict what the reference asks first. Raises StageFailed."""
    asked = json.dumps({name: array.tolist() for name, array in reference.first_inputs().items()})
    if len(asked) < LONGEST_WORD:
        run(Stage("predict", ["client", "predict", path, asked, "--timeout", PREDICT_S]), console)
    else:
        said = f"{path} is not predicted here: its inputs are too long for a command line"
        console.print(said, highlight=False, markup=False, soft_wrap=True)


def comparable(references: Sequence[Reference]) -> list[str]:
    """Return the models that compute the same as the first one: a load test compares no others."""
    first = references[0]
    return [each.model for each in references if each is first or each.computes_as(first)]


def load_arguments(options: DemoOptions) -> list[str]:
    """Return the load test's arguments: short, and yet MIN_REQUESTS on each path."""
    rounds = options.rounds or ROUNDS
    words = {
        "rounds": f"{rounds}",
        "rate": f"{options.rate or RATE:g}",
        "duration": f"{options.duration or DURATION_S:g}",
        "min-requests": f"{math.ceil(MIN_REQUESTS / rounds)}",
        "warmup": f"{WARMUP_S:g}",
    }
    return [f"--{name}={value}" for name, value in words.items()]


def conclude(console: Console, took_s: float) -> None:
    """Print what the report found. It ended with 0 or UNTRUSTED, so every response is correct."""
    summary = json.loads(SUMMARY.read_text())
    rows = summary["paths"]
    requests = sum(row["requests"] for row in rows)
    found = f"{len(rows)} rows, {requests:,} checked requests, 0 errors, 0 wrong answers"
    console.print(f"demo passed: {found}, in {took_s:.0f} s", style="bold green")
    for reason in summary["reasons"]:
        console.print(f"but the times are not valid: {reason}", style="bold yellow", highlight=False, markup=False)


def main(argv: Sequence[str]) -> int:
    """Run the demo, print the verdict, return the exit code."""
    options = parse_args(argv)
    if options.model:
        return compare.main([str(options.model), *([f"--rate={options.rate:g}"] if options.rate else [])])
    console = Console()
    begin = time.monotonic()
    try:
        stages(options, console)
        conclude(console, time.monotonic() - begin)
    except StageFailed as failure:
        console.print(f"demo failed: {failure}", style="bold red", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:]), "demo interrupted; the services that it started are stopped"))
