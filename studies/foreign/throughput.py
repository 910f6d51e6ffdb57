"""Rows a second of an imported model, by every way there is here: `python -m studies.foreign.throughput minilm`.

The model has been imported by `servepath compare` (studies.foreign does that). Closed loop: CALLERS callers with ROWS
rows each, or, with --lengths, with texts of mixed lengths, the same to all, in turns within each round; every answer is
checked. In process is ONNX Runtime without any server. Each way but the gateway is tried with several settings first,
and its best one measured: TorchServe by its own protocol, MLServer and Triton where .venv-mlserver and .venv-triton are
there (make e2e makes them), both by ONNX Runtime in Python. --also adds paths of ours, each with a row of its own.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from servepath.artifacts.manifest import ArtifactError, artifact_folder, current_version
from servepath.artifacts.names import model_name
from servepath.artifacts.reference import read_reference
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import run_main
from servepath.demo.compare import Workplace, services
from servepath.demo.stages import StageFailed
from servepath.protocols.probes import reduced_spec
from servepath.protocols.stacks import PATH_STACKS
from studies.foreign import questions, ways
from studies.foreign.ways import GATEWAY, Measured, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputOptions:
    """The command line of `python -m studies.foreign.throughput`."""

    model: str
    callers: int
    rows: int
    group: int
    lengths: list[int] | None
    seconds: float
    rounds: int
    load: float | None
    also: list[str]


def parse_args(argv: Sequence[str]) -> ThroughputOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="python -m studies.foreign.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=model_name, help="a model in artifacts/compare")
    add("--callers", type=whole(1), default=4, help="callers at once (default: 4)")
    add("--rows", type=whole(1), default=8, help="rows of a request (default: 8; 1 with --lengths)")
    add("--group", type=whole(0), default=0, help="which group of the reference the rows are of (default: 0)")
    add("--lengths", type=whole(1), nargs=2, metavar=("LOW", "HIGH"), help="requests of one row of mixed lengths")
    add("--seconds", type=positive, default=5.0, help="of each measurement (default: 5)")
    add("--rounds", type=whole(1), default=7, help="measurements of each way (default: 7)")
    add("--load", type=positive, help="then also at this share of each way's own capacity, such as 0.8")
    add(
        "--also",
        choices=PATH_STACKS,
        nargs="+",
        default=[],
        metavar="STACK",
        help="other paths through the gateway, such as onnx:int8, each held to its own tolerance",
    )
    return parser.read(ThroughputOptions, argv)


def check_paths(options: ThroughputOptions, stacks: Collection[str], exports: Path) -> None:
    """Raise StageFailed for a path that the import did not find, or whose answers to several rows are not proven."""
    for stack in options.also:
        if stack not in stacks:
            raise StageFailed(f"{options.model} has no path on {stack}; it has {', '.join(stacks)}")
        spec = reduced_spec(exports, options.model, stack)
        if spec is not None and not spec.row_independent and options.lengths is None and options.rows > 1:
            raise StageFailed(
                f"{options.model}@{stack} answers a row otherwise beside others: say --rows 1 or --lengths"
            )


def make_study(options: ThroughputOptions, folder: Path) -> Study:
    """Return what is asked. Raises StageFailed, ArtifactError."""
    place = Workplace(options.model)
    check_paths(options, place.stacks(), place.exports)
    reference = read_reference(place.exports, place.name)
    file = artifact_folder(place.exports, place.name, "onnx", current_version(place.exports, place.name)) / "model.onnx"
    if options.lengths is None:
        asked, rows = questions.equal(reference, options.group, options.rows), options.rows
    else:
        engine, names = ways.session(file, 1), [tensor.name for tensor in reference.spec.outputs]
        low, high = options.lengths
        asked = questions.mixed(
            reference, low, high, lambda inputs: dict(zip(names, engine.run(names, dict(inputs)), strict=True))
        )
        rows = 1
    return Study(reference, asked, rows, bool(options.lengths), options.callers, file, place.exports, folder)


def measure(options: ThroughputOptions, console: Console) -> Iterator[dict[str, list[Measured]]]:
    """Yield what each peer's best way got in each round, and then at a share of its capacity.

    Raises StageFailed, ArtifactError.
    """
    with tempfile.TemporaryDirectory(prefix="servepath-throughput-") as folder, ExitStack() as servers:
        study = make_study(options, Path(folder))
        address = servers.enter_context(services(Workplace(options.model), console))
        tried = [ways.gateway(address, study, stack) for stack in ("onnx", *options.also)]
        tried += ways.in_process(study)
        tried += servers.enter_context(ways.torchserve(study))
        for peer in ("mlserver", "triton"):
            tried += servers.enter_context(ways.other(peer, study))
        found = {}
        for way in tried:
            ways.measure(way, options.seconds)  # warm-up: the batcher finds out whether batching pays
            found[way.name] = ways.measure(way, options.seconds).rows_per_second
            console.print(f"{way.name}: {found[way.name]:.1f} rows/s", highlight=False)
        chosen = ways.best(tried, found)
        rounds = _rounds(chosen, options, console, dict.fromkeys(found))
        yield rounds
        if options.load is not None:
            served = [way for way in chosen if way.peer != ways.IN_PROCESS]
            capacity = {
                way.name: statistics.median(each.rows_per_second for each in rounds[way.name]) / way.rows
                for way in served
            }
            rates: dict[str, float | None] = {name: options.load * calls for name, calls in capacity.items()}
            yield _rounds(served, options, console, rates)


def _rounds(
    chosen: Sequence[ways.Way], options: ThroughputOptions, console: Console, rates: Mapping[str, float | None]
) -> dict[str, list[Measured]]:
    rounds: dict[str, list[Measured]] = {way.name: [] for way in chosen}
    for number in range(options.rounds):
        for way in chosen if number % 2 else reversed(chosen):
            rounds[way.name].append(ways.measure(way, options.seconds, rates[way.name]))
        console.print(f"round {number + 1} of {options.rounds}", highlight=False)
    return rounds


def table(found: Mapping[str, Sequence[Measured]]) -> Iterator[str]:
    """Yield a line for each way, and the gateway's ratios to each, by round: of rows/s, and of the median latency."""
    for name, rounds in found.items():
        rates = [each.rows_per_second for each in rounds]
        calls = sorted(latency for each in rounds for latency in each.latencies)
        p50, p99 = (1000 * calls[min(int(share * len(calls)), len(calls) - 1)] for share in (0.5, 0.99))
        yield f"{name}: {_spread(rates, '.1f')} rows/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(calls)} calls"
    for name, rounds in found.items():
        if name != GATEWAY:
            pairs = list(zip(found[GATEWAY], rounds, strict=True))
            rates = [mine.rows_per_second / theirs.rows_per_second for mine, theirs in pairs]
            medians = [
                statistics.median(mine.latencies) / statistics.median(theirs.latencies) for mine, theirs in pairs
            ]
            tails = [_p99(mine.latencies) / _p99(theirs.latencies) for mine, theirs in pairs]
            said = f"p50 {_spread(medians, '.2f')}, p99 {_spread(tails, '.2f')}"
            yield f"{GATEWAY} / {name}: rows/s {_spread(rates, '.2f')}, {said}"


def _p99(latencies: Sequence[float]) -> float:
    return sorted(latencies)[min(int(0.99 * len(latencies)), len(latencies) - 1)]


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} [{min(values):{form}}..{max(values):{form}}]"


def main(argv: Sequence[str]) -> int:
    """Measure, print the table, return the exit code."""
    options = parse_args(argv)
    titles = [
        "as fast as they can",
        f"at {options.load} of each one's own capacity, a latency counted from a drawn time",
    ]
    try:
        for title, found in zip(titles, measure(options, Console()), strict=False):
            print(f"{title}:")
            for line in table(found):
                print(f"  {line}")
    except (StageFailed, ArtifactError) as failure:
        print(f"python -m studies.foreign.throughput: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
