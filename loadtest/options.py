"""The load test's command line: what it may say, and what it says as a typed value.

The search for a capacity and the gate configure the load generator with it, too.
"""

import argparse
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest import config
from loadtest.fairness import DECLARABLE
from servepath.cli.arguments import Parser, positive, share, whole
from servepath.protocols.stacks import STACKS
from servepath.results.names import CLOSED, LOCAL, OPEN_CONSTANT, OPEN_POISSON, VIAS
from servepath.results.thresholds import MIN_P99_SAMPLES

GATE = "servepath gate --ref GITREF: is the working tree slower than a commit?"
SIDE = re.compile(r"[A-Za-z0-9_-]+")
Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What `python -m loadtest` was told; argument_parser() says what each field means."""

    paths: str
    via: str
    rounds: int
    difference: float | None
    minutes: float
    rows: int
    payloads: Path | None
    seed: int
    side: Sequence[tuple[str, Path]]
    allow: Sequence[str]
    rate: float
    duration: float
    min_requests: int
    warmup: float
    arrivals: str
    connections: int
    no_real_time: bool
    closed_loop: bool
    users: int
    out: Path
    exports: Path
    deployments: Path
    env_file: Path
    targets: Mapping[str, str] | None
    environment: str
    processes: int
    workers: int | None
    listen: Address | None
    worker: Address | None

    @property
    def vias(self) -> tuple[str, ...]:
        """Return the ways in which paths are reached."""
        return VIAS if self.via == "both" else (self.via,)

    @property
    def load_model(self) -> str:
        """Return the load model, as run.json names it."""
        if self.closed_loop:
            return CLOSED
        return OPEN_CONSTANT if self.arrivals == "constant" else OPEN_POISSON

    @property
    def connections_kept(self) -> int:
        """Return how many connections a path has; a closed loop's callers have one each."""
        return self.users if self.closed_loop else self.connections

    @property
    def worker_count(self) -> int:
        """Return how many workers load."""
        return self.workers or self.processes

    @property
    def leads(self) -> bool:
        """Return whether other processes load, and this one only leads them."""
        return not self.worker and (self.worker_count != 1 or self.listen is not None)


def argument_parser() -> Parser:
    """Return the parser of the load test's command line; other commands configure the load generator with it."""
    parser = Parser("servepath loadtest", description="Load deployment paths, one row per request.", epilog=GATE)
    what = parser.add_argument_group("what").add_argument
    what("--paths", default="all", help="MODEL@STACK,... or all (default)")
    what("--via", choices=(*VIAS, "both"), default="both", help="how to reach them (default: both)")
    what("--rounds", type=whole(1), default=20, help="each has one measurement of every path and way (default: 20)")
    until = (
        "instead of --rounds: continue until differences of this size are known on p50 (0.05: 5 %%) or --minutes are "
        "over; measurements are a third as long"
    )
    what("--difference", type=share, metavar="SHARE", help=until)
    what("--minutes", type=positive, default=15.0, help="the limit of such a run, warm-up included (default: 15)")
    what("--rows", type=whole(1), default=1, help="rows in each request (default: 1)")
    replay = "send the requests of an .npz, .jsonl or .json file, or of a folder of such files"
    what("--payloads", type=Path, metavar="FILE", help=replay)
    what("--seed", type=int, default=random.randrange(2**31), help="of order, arrivals, payloads (default: random)")  # noqa: S311
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
    add("--connections", type=whole(1), default=4, help="connections kept open to each path (default: 4)")
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
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overridden by the environment")
    targets = f"remote servers: {config.GATEWAY}, {', '.join(STACKS)}, or external ones; paths without one are left out"
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
