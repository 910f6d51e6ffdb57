"""Load deployment paths and record every request: `python -m loadtest --paths my_model@onnx --via direct`.

Rounds of measurements, one for each path and way and one for the no-op server, in an order drawn for each round for
each round. Arrivals are an open loop unless --closed-loop says otherwise. Ends with 0 when rows were recorded (`python
-m report` judges them), 1 when a server or file is missing, paths differ in what must be equal, or a worker is gone, 2
for a bad value, 130 after Ctrl-C, with the measurements that ended written and the run marked incomplete.

`python -m loadtest gate --ref GITREF` (loadtest/gate) loads a commit's services beside the working tree's.
"""

import sys
from collections.abc import Sequence

from loadtest import plan
from loadtest.config import check_targets
from loadtest.fairness import UnfairError
from loadtest.gate import command as gate
from loadtest.options import LoadOptions, argument_parser
from loadtest.run import RunError
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.signals import run_main
from servepath.results.names import LOCAL
from servepath.settings import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load test and return the exit code."""
    parser = argument_parser()
    argv = sys.argv[1:] if arguments is None else list(arguments)
    if argv[:1] == ["gate"]:
        return gate.main(argv[1:])
    options = parser.read(LoadOptions, argv)
    idle, why = ("rounds", "beside --difference") if options.difference else ("minutes", "without --difference")
    parser.refuse_idle(idle, why, argv)
    if options.worker_count < max(1, options.processes):
        parser.error("--workers: it must be at least 1, and at least --processes")
    try:
        known = plan.read_paths(options.deployments)
        try:
            paths = plan.choose(known, options.paths)
        except ValueError as error:
            parser.error(f"--paths: {error}")
        try:
            check_targets(options.targets or (), plan.read_deployments(options.deployments).servers)
        except ValueError as error:
            parser.error(f"--targets: {error}")
        if len(dict(options.side)) < len(options.side) or len(options.side) == 1:
            parser.error("--side: give two or more, each with a name of its own")
        if options.difference and len(paths) * len(options.vias) * max(1, len(options.side)) == 1:
            parser.error("--difference: there are no two paths, ways or sides to compare")
        if refusal := _out_of_reach(paths, options):
            parser.error(refusal)
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.program import run_all, work_for  # noqa: PLC0415

        master = options.worker
        number = work_for(paths, options, master) if master else run_all(paths, options, argv)
    except (SettingsError, ArtifactError, UnfairError, RunError, OSError) as error:
        print(f"servepath loadtest: {error}", file=sys.stderr)
        return 1
    return 128 + number if number else 0


def _out_of_reach(paths: Sequence[plan.ServingPath], options: LoadOptions) -> str:
    """Return why --targets does not suffice, or "". Paths that were not named may be left out."""
    if not options.targets:
        return ""
    if options.side:
        return "--targets: it cannot be combined with --side, whose FILE holds the addresses"
    if options.environment == LOCAL:
        return "--targets: describe the servers, for the report: --environment 'compose on one virtual machine'"
    measurements = plan.measurements_of(paths, options.vias)
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


if __name__ == "__main__":
    sys.exit(run_main(main))
