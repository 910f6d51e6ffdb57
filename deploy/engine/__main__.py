"""`python -m deploy.engine run COMMAND...`: run a command with DOCKER_HOST set to a running engine.

The machine's engine, else one of our own that is stopped when its last user ends. `clean` removes that one's folder
with all images. Exit code: the command's own; 1 when no engine can be had, 2 for wrong arguments, 130 after Ctrl-C.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from deploy.engine.base_images import ensure_base
from deploy.engine.client import Engine, EngineError
from deploy.engine.own import clean, engine
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main


def main(argv: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.what == "run" and not args.command:
        parser.error("run needs a COMMAND")
    try:
        if args.what == "clean":
            clean()
            return 0
        with engine() as docker:
            return _run(docker, args.command) if args.what == "run" else _bases(docker, args.images)
    except (EngineError, subprocess.SubprocessError) as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m deploy.engine", description="A Docker engine: the machine's, or our own.")
    verbs = parser.add_subparsers(dest="what", required=True, parser_class=Parser)
    run = verbs.add_parser("run", help="run a command with DOCKER_HOST set")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    bases = verbs.add_parser("bases", help="pull base images, or build substitutes for them")
    bases.add_argument("images", nargs="+", metavar="IMAGE")
    verbs.add_parser("clean", help="remove our own engine's folder with all its images")
    return parser


def _run(docker: Engine, command: Sequence[str]) -> int:
    try:
        return subprocess.run(command, env=docker.environment(), check=False).returncode
    except OSError as error:
        raise EngineError(f"cannot run {command[0]}: {error.strerror}") from error


def _bases(docker: Engine, images: Sequence[str]) -> int:
    for image in images:
        print(f"{image}: {ensure_base(docker, image)}, {docker.size(image) / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
