"""Find the capacity of deployment paths: `python -m loadtest.capacity --slo-p99-ms 5 --paths my_model@onnx`.

It is the highest rate at which the certified p99 of the response times keeps the objective and under 0.1 % fail. Then
the path gets 1.5 and 3 times that. All of it is added to the newest run (RUN/capacity.json, RUN/capacity/*.parquet);
`python -m report` shows it. Ends with 0; 1 when there is not a run, or a server or file is missing, or a worker is
gone; 2 for a bad value; 130 after Ctrl-C, with what was found written and marked incomplete:
a path that had a capacity keeps that one.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadtest import plan
from loadtest.capacity.attachment import run_folder
from loadtest.capacity.options import SHORTEST_S, CapacityOptions
from loadtest.options import LoadOptions, argument_parser
from loadtest.run import RunError
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.arguments import Parser, positive, seconds, whole
from servepath.cli.signals import run_main
from servepath.results.names import VIAS
from servepath.settings import SettingsError

# What is the load test's own, and goes to it as it is.
HANDED_ON = ("paths", "via", "rows", "seed", "processes", "connections", "exports", "deployments", "env_file")
EPILOG = (
    "exit codes: 0 found; 1 a run, server, file or worker is missing; 2 a bad value; 130 after Ctrl-C, "
    "with what was found written"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Find the capacities and return the exit code."""
    parser = _parser()
    options = parser.read(CapacityOptions, arguments)
    if options.seconds < SHORTEST_S:
        parser.error(f"--seconds {options.seconds:g}: give it {SHORTEST_S:g} or more, or no recovery can be seen")
    argv = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in HANDED_ON]
    argv += ["--no-real-time"] if options.no_real_time else []
    argv += [f"--payloads={options.payloads}"] if options.payloads else []
    load = argument_parser().read(LoadOptions, argv)
    try:
        try:
            paths = plan.choose(plan.read_paths(options.deployments), options.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        options = replace(options, run=run_folder(options.run))
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.capacity.program import run_all  # noqa: PLC0415

        number = run_all(paths, options, load, argv)
    except (SettingsError, ArtifactError, RunError, OSError) as error:
        print(f"servepath capacity: {error}", file=sys.stderr)
        return 1
    return 128 + number if number else 0


def _parser() -> Parser:
    about = "The highest rate of each path that meets an objective, and its behaviour above it."
    parser = Parser("servepath capacity", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("--slo-p99-ms", type=positive, default=5.0, help="the objective: p99 of response times, in ms (default: 5)")
    add("--paths", default="all", help="MODEL@STACK,... or all (default)")
    add("--via", choices=(*VIAS, "both"), default="both", help="how to reach them (default: both)")
    add("--rows", type=whole(1), default=1, help="rows in each request, as in the run (default: 1)")
    add("--payloads", type=Path, metavar="FILE", help="send the requests of a file, those that the run sent")
    add("--wanted-rps", type=positive, default=2000.0, help="the rate to answer for (default: 2000)")
    add("--seconds", type=seconds, default=90.0, help="maximum seconds for each path and way, from 20 (default: 90)")
    add("--seed", type=int, default=random.randrange(2**31), help="of arrivals and payloads (default: random)")  # noqa: S311
    add("--connections", type=whole(1), default=4, help="connections kept open to each path (default: 4)")
    add("--processes", type=whole(1), default=1, help="workers; one can send about 4,000 requests/s (default: 1)")
    add("--no-real-time", action="store_true", help="do not use real-time scheduling; requests may be sent late")
    add("--run", type=Path, default=Path("results"), help="a run, or the folder of runs, for its newest")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="folder with the reference artifacts")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="the list of paths")
    add("--env-file", type=Path, default=Path(".env"), help="addresses, overridden by the environment")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
