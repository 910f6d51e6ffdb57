"""From nothing but an environment to a comparison: `python -m servepath.demo [--rate 500] [--rounds 3]`.

Trains, exports, starts what does not run, predicts once on each path, loads them, reports, and stops what it started.
Exit code 0 only if every path returned correct responses; 1 if a stage failed, 130 after Ctrl-C. Right answers on a
machine too busy to measure on pass too: the last lines then say that the times prove nothing, and why.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import run_main
from servepath.demo import compare
from servepath.demo.stages import Stage, StageFailed, output, run, stop
from servepath.results.thresholds import MIN_REQUESTS, UNTRUSTED
from servepath.runner.config import SERVICES
from servepath.runner.processes import ServiceFiles, main_process

RUN_DIR = Path(".run")
SUMMARY = Path("results/latest/summary.json")
RATE = 500.0
# The longest that a path is waited for to be stable; `make loadtest` waits longer.
WARMUP_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The command line of `python -m servepath.demo`."""

    rate: float | None
    duration: float
    rounds: int
    model: Path | None


def parse_args(argv: Sequence[str]) -> DemoOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="python -m servepath.demo", description="Train, export, serve, predict, load, compare.")
    add = parser.add_argument
    add(
        "--rate",
        type=positive,
        help=f"requests a second on each path (default: {RATE:g}; of --model: found by a pilot)",
    )
    add("--duration", type=positive, default=0.8, help="seconds in each measurement (default: 0.8)")
    add("--rounds", type=whole(1), default=3, help="rounds, with one measurement of each path (default: 3)")
    add("--model", type=Path, metavar="PATH", help="a model's file or folder instead: what servepath compare PATH does")
    return parser.read(DemoOptions, argv)


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
        for path in json.loads(output(Stage("list paths", ["client", "paths", "--json"])))["paths"]:
            run(Stage("predict", ["client", "predict", path["name"], "1 2"]), console)
        run(Stage("load test", ["loadtest", *load_arguments(options)]), console)
        run(Stage("report", ["report"], (0, UNTRUSTED)), console)


def load_arguments(options: DemoOptions) -> list[str]:
    """Return the load test's arguments: short, and yet MIN_REQUESTS on each path."""
    words = {
        "rounds": f"{options.rounds}",
        "rate": f"{options.rate or RATE:g}",
        "duration": f"{options.duration:g}",
        "min-requests": f"{math.ceil(MIN_REQUESTS / options.rounds)}",
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
