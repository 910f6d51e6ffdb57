"""What tuning was told."""

import argparse
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servepath.cli.arguments import Parser, positive, seconds, whole
from servepath.protocols.tuned import GOALS

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
EPILOG = (
    "exit codes: 0 every path has its file; 1 a server, file or path cannot be measured; 2 a bad value; 130 after "
    "Ctrl-C, with the best so far written: the same command goes on"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """The command line of `servepath tune`."""

    paths: str
    goal: str
    slo_p99_ms: float
    rate: float | None
    budget: float
    precision: bool
    seed: int | None
    rows: int
    payloads: Path | None
    connections: int
    no_real_time: bool
    out: Path
    exports: Path
    deployments: Path
    env_file: Path


def duration(text: str) -> float:
    """Read a duration such as 90s, 10m or 1h, in seconds."""
    found = re.fullmatch(r"([0-9.]+)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 10m or 1h")
    return seconds(found[1]) * UNITS[found[2]]


def argument_parser() -> Parser:
    """Return the parser of the command line."""
    about = "Find settings under which paths do better than by default, measured beside the default."
    parser = Parser("servepath tune", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("paths", metavar="MODEL@STACK", help="the path to tune; several with commas, or all")
    goal = "highest rate under the objective, lowest latency or lowest CPU per request at --rate (default: rate)"
    add("--goal", choices=tuple(GOALS), default="rate", help=goal)
    add("--slo-p99-ms", type=positive, default=20.0, help="the objective: p99 of response times, in ms (default: 20)")
    add("--rate", type=positive, help="requests a second, for --goal latency and --goal cpu")
    add(
        "--budget",
        type=duration,
        default=600.0,
        help="time in all, shared by the paths, as 90s, 10m, 1h (default: 10m)",
    )
    precision = "try the reduced precisions, too, in which deployments.toml has the model on the stack"
    add("--precision", action="store_true", help=precision)
    seed = (
        "seed of the order of trials, arrivals and payloads (default: random; a repeated command keeps its earlier one "
        "for trials and arrivals)"
    )
    add("--seed", type=whole(0), help=seed)
    add("--rows", type=whole(1), default=1, help="rows in each request (default: 1)")
    add("--payloads", type=Path, metavar="FILE", help="send the requests of a file, as the load test does")
    add("--connections", type=whole(1), default=4, help="connections kept open to each path (default: 4)")
    add("--no-real-time", action="store_true", help="do not use real-time scheduling; requests may be sent late")
    add("--out", type=Path, default=Path("results/tuned"), help="folder of the files (default: results/tuned)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the artifacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overridden by the environment")
    return parser


def load_words(options: TuneOptions, sides: Mapping[str, Path]) -> list[str]:
    """Return the load generator's command line. sides: the file of addresses of each."""
    words = [f"--side={name}={file}" for name, file in sides.items()]
    words += [f"--{name}={getattr(options, name)}" for name in ("rows", "connections", "exports", "deployments")]
    words += [f"--env-file={options.env_file}", "--via=gateway"]
    words += [f"--payloads={options.payloads}"] if options.payloads else []
    words += [f"--seed={options.seed}"] if options.seed is not None else []
    words += ["--no-real-time"] if options.no_real_time else []
    return words


def requests_of(options: TuneOptions) -> str:
    """Return which requests are sent over how many connections, such as "64 rows, 4 connections"."""
    what = options.payloads.name if options.payloads else f"{options.rows} row{'s' * (options.rows > 1)}"
    return f"{what}, {options.connections} connection{'s' * (options.connections > 1)}"


def drawn_seed() -> int:
    """Return a seed for a search that was given none."""
    return random.randrange(2**31)  # noqa: S311 - an order, not a secret
