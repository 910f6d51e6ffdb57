"""Check the load test against MLPerf LoadGen and h2load: `python -m studies.loadgen --paths my_model@onnx`.

In each round every path, reached every way, and the no-op server are loaded by each instrument in turn, in drawn order.
Rows go to results/crosscheck/TIME, and `python -m report crosscheck` compares them. Ends with 0 when our load test
agrees with both on every path, 3 when it does not or that is inconclusive, 1 when an instrument, a server or a file is
missing, 2 for a bad value, 130 after Ctrl-C, with the measurements that ended written.
"""

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import plan
from loadtest.run import RunError
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, positive, whole
from servepath.cli.signals import run_main
from servepath.results.names import VIAS
from servepath.results.thresholds import MIN_P99_SAMPLES
from servepath.settings import SettingsError
from studies.loadgen.instruments import MAX_RPS
from studies.loadgen.options import StudyOptions

EPILOG = (
    "exit codes: 0 it agrees with both on every path; 3 it does not, or the result is inconclusive; 1 an "
    "instrument, a server "
    "or a file is missing; 2 a bad value; 130 after Ctrl-C. make turns 1 and 3 into 2"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cross-check and return the exit code."""
    parser = _parser()
    options = parser.read(StudyOptions, argv)
    try:
        try:
            paths = plan.choose(plan.read_own_paths(options.deployments), options.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        if options.rate > MAX_RPS:
            parser.error(f"--rate: {options.rate:g} is more than the {MAX_RPS} a second that h2load spaces evenly")
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from studies.loadgen.program import run_all  # noqa: PLC0415

        folder = run_all(paths, options)
    except (SettingsError, ArtifactError, RunError, OSError) as error:
        print(f"servepath crosscheck: {error}", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, "-m", "report", "crosscheck", str(folder)], check=False).returncode


def _parser() -> Parser:
    about = "Our load test against MLPerf LoadGen and h2load."
    parser = Parser("servepath crosscheck", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("--paths", default="all", help="MODEL@STACK,... or all (default)")
    add("--via", choices=(*VIAS, "both"), default="both", help="how to reach them (default: both)")
    add(
        "--rate",
        type=positive,
        default=200.0,
        help="requests a second in each measurement, at most 1000 (default: 200)",
    )
    rounds = "each has one measurement of every path and instrument; fewer than 5 know no p99 (default: 5)"
    add("--rounds", type=whole(5), default=5, help=rounds)
    add("--seconds", type=positive, default=3.4, help="seconds in each measurement (default: 3.4)")
    add(
        "--min-requests",
        type=whole(1),
        default=MIN_P99_SAMPLES,
        help="a measurement lasts until it has so many (default: %(default)s)",
    )
    add("--warmup", type=positive, default=10.0, help="maximum seconds to wait until a path is stable (default: 10)")
    seed = "seed of orders, arrivals and payloads (default: random)"
    add("--seed", type=whole(0), default=random.randrange(2**31), help=seed)  # noqa: S311
    add("--out", type=Path, default=Path("results/crosscheck"), help="folder for runs (default: results/crosscheck)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the reference artifacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overridden by the environment")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
