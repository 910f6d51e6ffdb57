"""`python -m deploy.supply.pins [--check]`: images.lock, the digests of the images that .env names.

Asks a registry through a Docker engine, and writes images.lock: .env's variables with @sha256 behind the tag, to be
read after .env (`docker compose --env-file .env --env-file images.lock`). `--check` only says what is missing. Exit
code 1 when a digest is missing or a registry does not answer, 130 after Ctrl-C.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dotenv import dotenv_values

from deploy.engine import Engine, EngineError, engine
from deploy.engine.base_images import PULL_S, is_substitute
from servepath.artifacts.atomic import write_file
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main

ENV, LOCK = Path(".env"), Path("images.lock")
HEAD = "# Written by `make pin-images`: the images of .env with their digests. A release needs one for each.\n"
PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")


def main(argv: Sequence[str]) -> int:
    """Write or check the lock; return the exit code."""
    parser = Parser(prog="servepath pin-images", description="Pin the images that .env names.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail while a digest is missing")
    check = parser.parse_args(argv).check
    wanted = named(dotenv_values(ENV))
    try:
        if not check:
            with engine() as docker:
                pinned = {variable: _digest(docker, image) for variable, image in wanted.items()}
            write_file(LOCK, HEAD + "".join(f"{variable}={image}\n" for variable, image in pinned.items()))
    except EngineError as error:
        print(f"servepath pin-images: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    missing = list(gaps(wanted, dotenv_values(LOCK)))
    for line in missing:
        print(f"servepath pin-images: {line}", file=sys.stderr)  # noqa: T201 - a program
    return int(bool(missing))


def named(env: Mapping[str, str | None]) -> dict[str, str]:
    """Return the images that .env names: its variables that end in _IMAGE."""
    return {variable: value for variable, value in env.items() if variable.endswith("_IMAGE") and value}


def gaps(wanted: Mapping[str, str], lock: Mapping[str, str | None]) -> Iterator[str]:
    """Yield what keeps a release from being built on exactly these images, a line each."""
    for variable, image in wanted.items():
        pinned = lock.get(variable) or ""
        if not PINNED.search(pinned):
            yield f"{variable} has no digest in {LOCK}; run: make pin-images"
        elif PINNED.sub("", pinned) != image:
            yield f"{variable} is {image} in .env and {pinned} in {LOCK}; run: make pin-images"
    for variable in lock.keys() - wanted.keys():
        yield f"{variable} is in {LOCK} and not in .env; run: make pin-images"


def _digest(docker: Engine, image: str) -> str:
    if docker.has(image) and is_substitute(docker, image):
        raise EngineError(f"{image} is a substitute image: pin images where a registry answers")
    try:
        docker.ask("pull", "--quiet", image, timeout_s=PULL_S)
    except EngineError as error:
        raise EngineError(f"no registry has {image} ({error}); {LOCK} is unchanged") from error
    repository = image.rpartition(":")[0]  # a registry's name may have a port
    digests = docker.ask("image", "inspect", "--format", '{{join .RepoDigests " "}}', image).split()
    digest = next(one.partition("@")[2] for one in digests if one.partition("@")[0].endswith(repository))
    return f"{image}@{digest}"


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
