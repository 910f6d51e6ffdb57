"""Load deployment paths and record every request: `python -m loadtest --paths simple_nn@onnx --via direct`.

Rounds of measurements, one for each path and way and one for the no-op server, in an order drawn for each round for
each round. Arrivals are an open loop unless --closed-loop says otherwise. Ends with 0 when rows were recorded (`python
-m report` judges them), 1 when a server or file is missing, paths differ in what must be equal, or a worker is gone, 2
for a bad value, 130 after Ctrl-C, with the measurements that ended written and the run marked incomplete.

`python -m loadtest gate --ref GITREF` (loadtest/gate) loads a commit's services beside the working tree's.
"""

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import config, plan
from loadtest.fairness import DECLARABLE, UnfairError
from loadtest.gate import command as gate
from loadtest.run import RunError
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import run_main
from servepath.results.names import VIAS
from servepath.results.thresholds import MIN_P99_SAMPLES

GATE = "python -m loadtest gate --ref GITREF: is the working tree slower than a commit?"
SIDE = re.compile(r"[A-Za-z0-9_-]+")
# The environment of servers that this machine runs itself.
LOCAL = "local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load test and return the exit code."""
    parser = argument_parser()
    argv = sys.argv[1:] if arguments is None else list(arguments)
    if argv[:1] == ["gate"]:
        return gate.main(argv[1:], parser)
    options = parser.parse_args(argv)
    try:
        known = plan.read_paths(options.deployments)
        try:
            paths = plan.choose(known, options.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        if len(dict(options.side)) < len(options.side) or len(options.side) == 1:
            parser.error("--side: give two or more, each with a name of its own")
        if refusal := _out_of_reach(paths, options):
            parser.error(refusal)
        if (options.workers or options.processes) < max(1, options.processes):
            parser.error("--workers: it must be at least 1, and at least --processes")
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.program import run_all, work_for  # noqa: PLC0415

        number = work_for(paths, options) if options.worker else run_all(paths, options, argv)
    except (config.ConfigError, ArtifactError, UnfairError, RunError, OSError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    return 128 + number if number else 0


def _out_of_reach(paths: Sequence[plan.ServingPath], options: argparse.Namespace) -> str:
    """Return why --targets does not suffice, or "". Paths that were not named may be left out."""
    if not options.targets:
        return ""
    if options.side:
        return "--targets: it cannot be combined with --side, whose FILE holds the addresses"
    if options.environment == LOCAL:
        return "--targets: describe the servers, for the report: --environment 'compose on one virtual machine'"
    measurements = plan.measurements_of(paths, VIAS if options.via == "both" else (options.via,))
    reached = {
        measurement.path
        for measurement in plan.within_reach(measurements, options.targets)
        if measurement != plan.NO_OP
    }
    missing = [path for path in paths if path not in reached]
    if missing and (options.paths != "all" or not reached):
        names = dict.fromkeys(
            plan.server_of(measurement) for measurement in measurements if measurement.path == missing[0]
        )
        return f"--targets: {missing[0]} cannot be reached; add {' or '.join(f'{name}=HOST:PORT' for name in names)}"
    if missing and not options.worker:
        print(f"left out, since --targets has no address for them: {', '.join(map(str, missing))}")
    return ""


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the load test's command line; other commands configure the load generator with it."""
    parser = Parser("python -m loadtest", description="Load deployment paths, one row per request.", epilog=GATE)
    what = parser.add_argument_group("what").add_argument
    what("--paths", default="all", help="MODEL@STACK,... or all (default)")
    what("--via", choices=(*VIAS, "both"), default="both", help="how to reach them (default: both)")
    what("--rounds", type=whole(1), default=20, help="each has one measurement of every path and way (default: 20)")
    what("--rows", type=whole(1), default=1, help="rows in each request (default: 1)")
    what("--seed", type=int, default=random.randrange(2**31), help="of order, arrivals, payloads (default: drawn)")  # noqa: S311
    side = "compare servers of the same path: FILE holds this side's addresses, like .env; repeat it for each side"
    what("--side", type=_side, action="append", default=[], metavar="NAME=FILE", help=side)
    what("--allow", choices=DECLARABLE, action="append", default=[], help="paths may differ in this; repeatable")
    _add_load(parser)
    _add_places(parser)
    _add_workers(parser)
    return parser


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("load").add_argument
    add("--rate", type=positive, default=500.0, help="requests a second in each measurement (default: 500)")
    add("--duration", type=positive, default=1.35, help="seconds in each measurement (default: 1.35)")
    add(
        "--min-requests",
        type=whole(1),
        default=MIN_P99_SAMPLES,
        help="a measurement lasts until it has so many (default: %(default)s)",
    )
    add("--warmup", type=positive, default=10.0, help="maximum seconds to wait until a path is stable (default: 10)")
    add("--arrivals", choices=("poisson", "constant"), default="poisson", help="of the open loop (default: poisson)")
    add("--connections", type=whole(1), default=4, help="kept open to each path (default: 4)")
    add("--no-real-time", action="store_true", help="do not use real-time scheduling; requests may be sent late")
    add(
        "--closed-loop",
        action="store_true",
        help="closed loop: callers that wait for their replies, at --rate or as fast as they can",
    )
    add("--users", type=whole(1), default=4, help="callers of the closed loop, one connection each (default: 4)")


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("places").add_argument
    add("--out", type=Path, default=Path("results"), help="folder for runs (default: results)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the reference artifacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overruled by the environment")
    targets = f"remote servers: {', '.join(config.TARGETS)}; paths without one are left out"
    add("--targets", type=_targets, metavar="NAME=HOST:PORT,...", help=targets)
    add("--environment", default=LOCAL, metavar="TEXT", help="what the servers run on, for the report")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("workers (one keeps its schedule up to about 4,000 requests/s)").add_argument
    add("--processes", type=whole(0), default=1, help="workers on this machine (default: 1, in this process)")
    add(
        "--workers",
        type=whole(1),
        help="total number of workers to wait for; others connect from other machines with --worker",
    )
    add("--listen", type=_address, help="HOST:PORT where workers connect (default: 127.0.0.1 and a free port)")
    add(
        "--worker", type=_address, help="work for the master at HOST:PORT; give the same other options, --seed included"
    )


def _targets(text: str) -> dict[str, str]:
    try:
        return config.parse_targets(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _side(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not (SIDE.fullmatch(name) and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE, the name of letters, digits, - and _")
    return name, Path(file)


if __name__ == "__main__":
    sys.exit(run_main(main))
