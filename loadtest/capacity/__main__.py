"""Find the capacity of deployment paths: `python -m loadtest.capacity --slo-p99-ms 5 --paths simple_nn@onnx`.

It is the highest rate at which the certified p99 of the response times keeps the objective and under 0.1 % fail. Then
the path gets 1.5 and 3 times that. All of it is added to the newest run (RUN/capacity.json, RUN/capacity/*.parquet);
`python -m report` shows it. Ends with 0; 1 when there is no run, or a server or file is missing, or a worker is gone; 2
for a bad value; 130 after Ctrl-C, with what was found written and marked incomplete.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from commandline.arguments import Parser, positive, seconds, whole
from commandline.endings import interruptible
from loadtest import plan
from loadtest.__main__ import words_parser
from loadtest.capacity.addition import run_folder
from loadtest.config import ConfigError
from loadtest.run import RunError
from store.manifest import ArtefactError

# What is the load test's own, and goes to it as it is.
HANDED_ON = ("paths", "via", "seed", "processes", "connections", "exports", "deployments", "env_file")
EPILOG = (
    "exit codes: 0 found; 1 no run, server or file is there, or a worker is gone; 2 a bad value; 130 after Ctrl-C, "
    "with what was found written"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Find the capacities and give the exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    words = [f"--{name.replace('_', '-')}={getattr(asked, name)}" for name in HANDED_ON]
    words += ["--no-real-time"] if asked.no_real_time else []
    load = words_parser().parse_args(words)
    try:
        try:
            paths = plan.choose(plan.read_paths(asked.deployments), asked.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        asked.run = run_folder(asked.run)
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.capacity.program import run_all  # noqa: PLC0415

        number = run_all(paths, asked, load, words)
    except (ConfigError, ArtefactError, RunError, OSError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    return 128 + number if number else 0


def _parser() -> argparse.ArgumentParser:
    about = "The highest rate of each path that keeps an objective, and what it does beyond."
    parser = Parser("python -m loadtest.capacity", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("--slo-p99-ms", type=positive, default=5.0, help="the objective: p99 of response times, in ms (default: 5)")
    add("--paths", default="all", help="MODEL@STACK,... or all (default)")
    add("--via", choices=(*plan.VIAS, "both"), default="both", help="how to reach them (default: both)")
    add("--wanted-rps", type=positive, default=2000.0, help="the rate that the answer is for (default: 2000)")
    add("--seconds", type=seconds, default=90.0, help="for each path and way, at most (default: 90)")
    add("--seed", type=int, default=random.randrange(2**31), help="of arrivals and payloads (default: drawn)")  # noqa: S311
    add("--connections", type=whole(1), default=4, help="kept open to each path (default: 4)")
    add("--processes", type=whole(1), default=1, help="workers; one can send some 4,000 requests/s (default: 1)")
    add("--no-real-time", action="store_true", help="schedule the generator like any process; it may send late")
    add("--run", type=Path, default=Path("results"), help="a run, or the folder of runs, for its newest")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the reference artefacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overruled by the environment")
    return parser


if __name__ == "__main__":
    sys.exit(interruptible(main))
