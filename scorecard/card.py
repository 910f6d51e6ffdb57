"""The card of a path: its figures, each with how it was measured or why it was not."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from scorecard import closure, gpu, images
from scorecard.figures import MIB, Figure, missing, spread
from scorecard.load import Block
from scorecard.program import Front, Life
from scorecard.starts import Name
from services.local.config import GATEWAY, Service

START = ("start to first right answer", "s")
CPU_UNIT = "s per 1,000 requests"
PSS = "PSS of all its processes"
# A product's own server that no extra of ours installs.
REAL_TF = "tensorflow_model_server"


def card(path: Name, service: Service, life: Life, front: Front, worth: Sequence[Figure]) -> dict[str, Any]:
    """Give the JSON form of a path's card. worth: its figures from the capacity."""
    engine, version = _of(life.blocks, path)[0].engine
    figures = [
        _install(service, engine),
        images.image_size(service.name),
        _start(path, life),
        *_memory(path, service.name, life, front),
        *_cpu(path, service.name, life, front),
        *gpu.figures([reading for block in _of(life.blocks, path) for reading in block.gpu], life.pids),
        *worth,
    ]
    who = {"model": path[0], "stack": path[1], "engine": engine, "engine_version": version}
    return {**who, "figures": [figure._asdict() for figure in figures]}


def _install(service: Service, engine: str) -> Figure:
    if engine == REAL_TF:
        return missing(closure.NAME, closure.UNIT, f"{REAL_TF} is not installed by an extra")
    if service.command[0] != sys.executable:
        return missing(closure.NAME, closure.UNIT, f"{service.name} runs by another Python, {service.command[0]}")
    return closure.install_size(service.name.replace("_", "-"))


def _start(path: Name, life: Life) -> Figure:
    median_s, note = spread([start[path] for start in life.starts], "new processes")
    return Figure(START[0], median_s, START[1], f"{note}, warm page cache{_shared(path, life)}")


def _memory(path: Name, service: str, life: Life, front: Front) -> Iterator[Figure]:
    shared, begun = _shared(path, life), "some seconds after the first answers"
    yield Figure("idle memory", life.idle_bytes / MIB, "MiB", f"{PSS}, {begun}{shared}")
    yield Figure("loaded memory", life.loaded_bytes / MIB, "MiB", f"{PSS}, after the direct load{shared}")
    note = f"{PSS}, beside {service} and the other servers of the run"
    yield Figure("gateway idle memory", front.idle_bytes / MIB, "MiB", f"{note}; one gateway for all paths")
    yield Figure("gateway loaded memory", front.loaded_bytes / MIB, "MiB", f"{note}, after the load of all paths")


def _cpu(path: Name, service: str, life: Life, front: Front) -> Iterator[Figure]:
    fronted = _of(front.blocks, path)
    yield _cost("server CPU, direct", _of(life.blocks, path), service)
    yield _cost("server CPU, via gateway", fronted, service)
    yield _cost("gateway CPU", fronted, GATEWAY)


def _cost(name: str, blocks: Sequence[Block], service: str) -> Figure:
    if bad := sum(block.bad for block in blocks):
        return missing(name, CPU_UNIT, f"{bad} errors and wrong answers under load")
    requests = sum(block.requests for block in blocks)
    seconds = [block.cpu_s[service] / block.requests * 1e3 for block in blocks]
    how = f"{len(blocks)} blocks, {requests:,} requests, {min(seconds):.3f}..{max(seconds):.3f}"
    value = sum(block.cpu_s[service] for block in blocks) / requests * 1e3
    return Figure(name, value, CPU_UNIT, f"scheduler's count over all processes of {service}: {how}")


def _of(blocks: Sequence[Block], path: Name) -> list[Block]:
    return [block for block in blocks if block.path == path]


def _shared(path: Name, life: Life) -> str:
    """Say which other paths one process serves."""
    others = [f"{model}@{stack}" for model, stack in life.starts[0] if (model, stack) != path]
    return f"; the same process serves {', '.join(others)}" if others else ""
