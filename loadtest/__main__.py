"""Load deployment paths and record every request: `python -m loadtest --paths simple_nn@onnx --via direct`.

Ends with 0 when rows were recorded (`python -m report` judges them), 1 when a server or file is missing, 2 for a bad
value, 130 after Ctrl-C, with the rows so far written and the run marked incomplete.
"""

import argparse
import functools
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from commandline.arguments import Parser, positive, whole
from loadtest import config, plan
from store.manifest import ArtefactError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load test and give the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        known = plan.read_paths(options.deployments)
        try:
            paths = plan.choose(known, options.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        vias = plan.VIAS if options.via == "both" else (options.via,)
        # Locust patches the process for gevent when imported: before gRPC, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.program import run_all  # noqa: PLC0415

        number = run_all(plan.draw(paths, vias, options.seed), options, say=functools.partial(print, flush=True))
    except (config.ConfigError, ArtefactError, OSError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    return 128 + number if number else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m loadtest", description="Closed-loop load test of deployment paths.")
    add = parser.add_argument
    add("--paths", default="all", help="MODEL@STACK,... or all (default)")
    add("--via", choices=(*plan.VIAS, "both"), default="both", help="how to reach them (default: both)")
    add("--rate", type=positive, default=250.0, help="requests a second in each block (default: 250)")
    add("--duration", type=positive, default=5.0, help="seconds measured in each block (default: 5)")
    add("--warmup", type=positive, default=1.0, help="seconds before that, recorded apart (default: 1)")
    add("--users", type=whole(1), default=4, help="callers, each with its own connection (default: 4)")
    add("--rows", type=whole(1), default=1, help="rows in each request (default: 1)")
    add("--seed", type=int, default=random.randrange(2**31), help="for payloads and order (default: drawn)")  # noqa: S311
    add(
        "--min-requests",
        type=whole(1),
        default=1000,
        help="a block lasts until it has them, at most 4 times its duration",
    )
    add("--out", type=Path, default=Path("results"), help="folder for runs (default: results)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the reference artefacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overruled by the environment")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the session takes both over
    try:
        code = main()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)
