"""What is done to the containers, in order. A stage gives lines that say what was seen; EngineError ends the test."""

import os
import time
from collections.abc import Callable, Iterator

from deploy.builder import images as builder
from deploy.builder.images import read_variables
from deploy.compose import ROOT
from deploy.e2e.faults import killed, rolled
from deploy.e2e.hardening import secure
from deploy.e2e.load import load, load_inside
from deploy.e2e.screens import observed
from deploy.e2e.stand import Stand, ask_all
from deploy.engine import EngineError


def build(stand: Stand) -> Iterator[str]:
    """Build every image that the compose file names, and hold those that have a limit against it."""
    variables = read_variables(ROOT, {**os.environ, **stand.project.settings})
    for name in ("gateway", "onnx_svc", "torch_svc", "tf_svc-embedded" if stand.embedded else "tf_svc", "loadtest"):
        built = builder.build(stand.project.engine, name, variables)
        if built.too_large():
            raise EngineError(f"an image is too large: {built}")
        yield str(built)


def start(stand: Stand) -> Iterator[str]:
    """Start everything and wait until it is healthy."""
    begin = time.monotonic()
    stand.project.up()
    yield f"all healthy after {time.monotonic() - begin:.0f} s"


def answers(stand: Stand) -> Iterator[str]:
    """Ask every path through the gateway, and hold the answers against the reference."""
    for name, engine in ask_all(stand).items():
        yield f"{name}: right, by {engine}"


STAGES: tuple[tuple[str, Callable[[Stand], Iterator[str]]], ...] = (
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
