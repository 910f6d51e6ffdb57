"""Tune paths: `servepath tune MODEL@STACK|all --slo-p99-ms 20 --budget 10m`.

Writes results/tuned/MODEL@STACK.toml for each path, which `servepath up --tuned` applies, and its trials beside it. No
service of yours is touched: default and candidates run on ports of their own. Ends with 0; 1 where a path cannot be
measured, 2 for a bad value, 130 after Ctrl-C, with the best so far written; the same command goes on from there.
"""

import sys
from collections.abc import Sequence

from loadtest import plan
from loadtest.plan import ServingPath
from loadtest.run import RunError
from loadtest.tune.options import TuneOptions, argument_parser
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.signals import run_main
from servepath.protocols.stacks import server_of
from servepath.settings import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune and return the exit code."""
    parser = argument_parser()
    options = parser.read(TuneOptions, arguments)
    if (options.rate is None) != (options.goal == "rate"):
        parser.error(f"--goal {options.goal} {'needs' if options.rate is None else 'takes no'} --rate")
    try:
        try:
            paths = chosen(options)
        except ValueError as error:
            parser.error(str(error))
        # Locust patches the process for gevent when imported: before the rest, and not for --help or a bad value.
        import locust  # noqa: F401, PLC0415

        from loadtest.tune.program import tune_all  # noqa: PLC0415

        return tune_all(paths, options)
    except (SettingsError, ArtifactError, RunError, OSError) as error:
        print(f"servepath tune: {error}", file=sys.stderr)
        return 1


def chosen(options: TuneOptions) -> list[ServingPath]:
    """Return the paths to tune, and say which not. Raises SettingsError; ValueError for one that is not known.

    With --precision a path tries its reduced precisions, and may choose one that then must have no file of its own.
    """
    paths = plan.choose(plan.read_own_paths(options.deployments), options.paths)
    full = {path: path._replace(stack=server_of(path.stack)) for path in paths}
    tried = [path for path in paths if options.precision and full[path] != path and full[path] in paths]
    if tried:
        print(f"servepath tune: tried with the path in full precision, not by itself: {', '.join(map(str, tried))}")
    return [path for path in paths if path not in tried]


if __name__ == "__main__":
    sys.exit(run_main(main))
