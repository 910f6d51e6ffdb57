"""`python -m deploy.builder [IMAGE...]`: build images on a Docker engine, and say what each adds to its base.

Bases and tag come from .env, digests from images.lock, both overridden by the environment. An image whose base
cannot be had is replaced by its stand-in, if it has one, and that is said. Exit code 1 when an image cannot be built or
is larger than its limit, 2 for wrong arguments, 130 after Ctrl-C.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from deploy.builder.images import DEFAULT, IMAGES, Built, build, read_variables
from deploy.engine import Engine, EngineError, engine, ensure_base
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main


def main(argv: Sequence[str]) -> int:
    """Build what was asked for; return the exit code."""
    parser = Parser(prog="servepath images", description="Build the images.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)} ({', '.join(DEFAULT)})")
    names = parser.parse_args(argv).images or DEFAULT
    for name in names:
        if name not in IMAGES:
            parser.error(f"unknown image {name!r}; known: {', '.join(IMAGES)}")
    try:
        with engine() as docker:
            built = [_build(docker, name, read_variables()) for name in names]
    except (EngineError, subprocess.SubprocessError) as error:
        print(f"servepath images: {error}", file=sys.stderr)
        return 1
    return int(any(image.too_large() for image in built))


def _build(docker: Engine, name: str, variables: Mapping[str, str]) -> Built:
    chosen = _to_be_had(docker, name, variables)
    print(f"building {chosen} ...", flush=True)
    built = build(docker, chosen, variables)
    print(built, flush=True)
    return built


def _to_be_had(docker: Engine, name: str, variables: Mapping[str, str]) -> str:
    """Build the image, or its replacement when its base is not available. Raises EngineError."""
    try:
        ensure_base(docker, variables[IMAGES[name].base])
    except EngineError as error:
        if not (stand_in := IMAGES[name].stand_in):
            raise
        print(f"{name}: NOT BUILT ({error}); {stand_in} in its place", flush=True)
        return stand_in
    return name


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
