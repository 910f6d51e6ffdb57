"""What is done to the containers, in order. A stage gives lines that say what was seen; EngineError ends the test."""

import os
import time
from collections.abc import Callable, Iterator

from deploy.builder import images as builder
from deploy.builder.images import read_variables
from deploy.compose import ROOT
from deploy.e2e.environment import Environment, ask_all
from deploy.e2e.fault_injection import killed, rolled
from deploy.e2e.hardening import secure
from deploy.e2e.load import load, load_inside
from deploy.e2e.observability import observed
from deploy.engine import EngineError


def build(environment: Environment) -> Iterator[str]:
    """Build every image that the compose file names, and hold those that have a limit against it."""
    variables = read_variables(ROOT, {**os.environ, **environment.project.settings})
    images = [builder.IMAGES[name] for name in ("gateway", "loadtest")] + [one.images[0] for one in environment.stacks]
    for image in images:
        name = image.stand_in if image.stand_in and environment.embedded else image.name
        built = builder.build(environment.project.engine, name, variables)
        if built.too_large():
            raise EngineError(f"an image is too large: {built}")
        yield str(built)


def start(environment: Environment) -> Iterator[str]:
    """Start everything and wait until it is healthy."""
    begin = time.monotonic()
    environment.project.up()
    yield f"all healthy after {time.monotonic() - begin:.0f} s"


def answers(environment: Environment) -> Iterator[str]:
    """Predict on every path through the gateway, and compare the answers with the reference."""
    for name, engine in ask_all(environment).items():
        yield f"{name}: correct, by {engine}"


STAGES: tuple[tuple[str, Callable[[Environment], Iterator[str]]], ...] = (
    ("build", build),
    ("up", start),
    ("answers", answers),
    ("security", secure),
    ("load from outside", load),
    ("load from inside", load_inside),
    ("kill -9", killed),
    ("rolling restart", rolled),
    ("observability", observed),
)
