"""The images, what each is built from, and how one is built."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.engine import Engine, ensure_base
from servepath.artifacts.commit import ROOT, git_commit
from servepath.protocols.stacks import STACKS, Image
from servepath.settings import variables

DOCKERFILES = Path("deploy/images")
BUILD_S = 3600.0
MB = 1_000_000


OURS = (
    Image(name="gateway", repository="gateway", lock="gateway", extras=("gateway",), limit_mb=70),
    Image(name="loadtest", repository="loadtest", lock="loadtest", extras=("loadtest", "report", "client")),
    Image(
        name="pipeline",
        repository="pipeline",
        lock="pipeline",
        extras=("training", "export"),
        passed=("TORCH_INDEX",),
    ),
)
IMAGES: Mapping[str, Image] = {
    image.name: image for image in (*OURS, *(image for stack in STACKS.values() for image in stack.images))
}
# What is built unless something else is asked for: all of ours, and each stack's first.
DEFAULT = (*(image.name for image in OURS), *(stack.images[0].name for stack in STACKS.values()))


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built. base: "present", "pulled" or "substitute". size, added: bytes, with and without base."""

    name: str
    tag: str
    base: str
    seconds: float
    size: int
    added: int

    def too_large(self) -> bool:
        """Return whether the image adds more to its base than allowed."""
        limit_mb = IMAGES[self.name].limit_mb
        return limit_mb is not None and self.added > limit_mb * MB

    def __str__(self) -> str:
        """Return one line for people."""
        limit_mb = IMAGES[self.name].limit_mb
        allowed = f" of at most {limit_mb}" if limit_mb else ""
        sizes = f"{self.size / MB:.0f} MB, {self.added / MB:.0f}{allowed} over its base ({self.base})"
        return f"{self.tag}: {sizes}, {self.seconds:.0f} s"


def read_variables(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of .env, images.lock and the environment; later ones win."""
    return variables(root / ".env", {}) | variables(root / "images.lock", {}) | dict(environment)


def tag(name: str, variables: Mapping[str, str]) -> str:
    """Return an image's full name, such as servepath/gateway:0.2.0; one with CUDA ends in -gpu."""
    image = IMAGES[name]
    return f"servepath/{image.repository}:{variables['SERVEPATH_TAG']}{'-gpu' if image.cuda else ''}"


def build(docker: Engine, name: str, variables: Mapping[str, str], root: Path = ROOT) -> Built:
    """Build one image. Raises EngineError."""
    image = IMAGES[name]
    begin = time.monotonic()
    base = variables[image.base]
    how = ensure_base(docker, base)
    if how == "substitute":
        base = base.partition("@")[0]
    docker.run("build", *_words(name, base, variables), ".", folder=root, timeout_s=BUILD_S)
    size = docker.size(tag(name, variables))
    return Built(name, tag(name, variables), how, time.monotonic() - begin, size, size - docker.size(base))


def _words(name: str, base: str, variables: Mapping[str, str]) -> list[str]:
    image = IMAGES[name]
    given = {argument: variables.get(argument, "") for argument in (*image.passed, "PIP_NO_INDEX")}
    arguments = {"BASE": base, "COMMIT": git_commit(), **image.arguments, **given}
    # An argument that a Dockerfile does not know is an error to some builders.
    known = declared((DOCKERFILES / f"{image.repository}.Dockerfile").read_text())
    pairs = [f"--build-arg={key}={value}" for key, value in arguments.items() if key in known and value]
    return ["--quiet", "--tag", tag(name, variables), "--file", f"{DOCKERFILES}/{image.repository}.Dockerfile", *pairs]


def declared(dockerfile: str) -> set[str]:
    """Return the names of a Dockerfile's build arguments."""
    return {line.split()[1].partition("=")[0] for line in dockerfile.splitlines() if line.startswith("ARG ")}
