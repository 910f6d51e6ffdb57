"""Ours and a peer, interleaved in one run: `python -m studies.peers [--rounds 5] [--only 'gateway-*,onnx-p50']`.

Exit code 0 when every row that could be measured counts, 1 when one is void or something is missing without which
nothing can be measured, 2 for a bad value, 130 after Ctrl-C. A ratio below its threshold is a finding, not a failure.
"""

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from report.writers import terminal
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, seconds, whole
from servepath.cli.signals import run_main
from servepath.protocols.deployments import DeploymentsError
from studies.peers import show
from studies.peers.program import PeersOptions, run
from studies.peers.rows import ROWS, Row

# Of what is not a terminal, a file for example.
WIDTH = 120
INTERRUPTED = "servepath bench: interrupted; the services that it started are stopped, the setups that ended are kept"


def main(argv: Sequence[str]) -> int:
    """Run the benchmark and return the exit code."""
    options = parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if options.list:
        terminal.show(show.rows(), console)
        return 0
    try:
        return run(options, sorted(os.sched_getaffinity(0)), console)
    except (ArtifactError, DeploymentsError, OSError) as error:
        print(f"servepath bench: {error}", file=sys.stderr)
        return 1


def parse_args(argv: Sequence[str]) -> PeersOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath bench", description="Compare gateway and onnx_svc with their peers.")
    add = parser.add_argument
    add("--rounds", type=whole(1), default=5, help="interleaved rounds (default: 5)")
    add("--seconds", type=seconds, default=2.0, help="length of one measurement (default: 2)")
    add("--only", type=_rows, default=ROWS, metavar="ROWS", help="rows, by name or with *, separated by commas")
    add("--exports", type=Path, default=Path("artifacts/exports"), metavar="DIR", help="exported artifacts")
    add(
        "--out", type=Path, default=Path("results/bench"), metavar="DIR", help="where results go (default: %(default)s)"
    )
    add("--list", action="store_true", help="list the rows and end")
    return parser.read(PeersOptions, argv)


def _rows(text: str) -> tuple[Row, ...]:
    chosen: dict[str, Row] = {}
    for pattern in text.split(","):
        found = {row.name: row for row in ROWS if fnmatch.fnmatchcase(row.name, pattern)}
        if not found:
            raise argparse.ArgumentTypeError(f"unknown row {pattern!r}; see --list")
        chosen |= found
    return tuple(row for row in ROWS if row.name in chosen)


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:]), INTERRUPTED))
