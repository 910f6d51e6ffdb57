"""The card of a path: its figures, each with how it was measured or why it was not."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from loadtest.cost import gpu, images, install_size
from loadtest.cost.figures import MIB, Figure, missing, spread
from loadtest.cost.load import Measurement
from loadtest.cost.program import GatewayCost, Life
from loadtest.cost.startup import Name
from servepath.protocols.stacks import PATH_STACKS, Stack
from servepath.results.names import GATEWAY_CPU, GATEWAY_LOADED_MEMORY, LOADED_MEMORY, SERVER_CPU
from servepath.runner.config import GATEWAY, Service

START = ("start to first correct response", "s")
CPU_UNIT = "s per 1,000 requests"
PSS = "PSS of all its processes"


def card(path: Name, service: Service, life: Life, front: GatewayCost, worth: Sequence[Figure]) -> dict[str, Any]:
    """Return the JSON form of a path's card. worth: its figures from the capacity."""
    engine, version = _of(life.measurements, path)[0].engine
    figures = [
        _install(PATH_STACKS[path[1]], service, engine),
        images.image_size(service.name),
        _start(path, life),
        *_memory(path, service.name, life, front),
        *_cpu(path, service.name, life, front),
        *gpu.figures(
            [reading for measurement in _of(life.measurements, path) for reading in measurement.gpu], life.pids
        ),
        *worth,
    ]
    direct, fronted = (_of(each, path) for each in (life.measurements, front.measurements))
    who = {"model": path[0], "stack": path[1], "engine": engine, "engine_version": version}
    who |= {"artifact": direct[0].artifact, "settings": direct[0].settings, "gateway_settings": fronted[0].settings}
    wrong = {"wrong_answers": _wrong(direct), "gateway_wrong_answers": _wrong(fronted)}
    return {**who, **wrong, "figures": [figure.to_dict() for figure in figures]}


def _install(stack: Stack, service: Service, engine: str) -> Figure:
    if stack.identity and engine == stack.identity.engine:  # the product's own server, not what our extra installs
        return missing(install_size.NAME, install_size.UNIT, f"{engine} is not installed by an extra")
    if service.command[0] != sys.executable:
        return missing(
            install_size.NAME, install_size.UNIT, f"{service.name} uses another Python, {service.command[0]}"
        )
    return install_size.install_size(stack.extra)


def _start(path: Name, life: Life) -> Figure:
    median_s, note = spread([start[path] for start in life.starts], "new processes")
    return Figure(START[0], median_s, START[1], f"{note}, warm page cache{_shared(path, life)}")


def _memory(path: Name, service: str, life: Life, front: GatewayCost) -> Iterator[Figure]:
    shared, begun = _shared(path, life), "some seconds after the first answers"
    yield Figure("idle memory", life.idle_bytes / MIB, "MiB", f"{PSS}, {begun}{shared}")
    yield Figure(LOADED_MEMORY, life.loaded_bytes / MIB, "MiB", f"{PSS}, after the direct load{shared}")
    note = f"{PSS}, beside {service} and the other servers of the run"
    yield Figure("gateway idle memory", front.idle_bytes / MIB, "MiB", f"{note}; one gateway for all paths")
    yield Figure(GATEWAY_LOADED_MEMORY, front.loaded_bytes / MIB, "MiB", f"{note}, after the load of all paths")


def _cpu(path: Name, service: str, life: Life, front: GatewayCost) -> Iterator[Figure]:
    fronted = _of(front.measurements, path)
    yield _cost(SERVER_CPU["direct"], _of(life.measurements, path), service)
    yield _cost(SERVER_CPU["gateway"], fronted, service)
    yield _cost(GATEWAY_CPU, fronted, GATEWAY)


def _cost(name: str, measurements: Sequence[Measurement], service: str) -> Figure:
    if bad := sum(measurement.bad for measurement in measurements):
        return missing(name, CPU_UNIT, f"{bad} errors and incorrect responses under load")
    requests = sum(measurement.requests for measurement in measurements)
    seconds = [measurement.cpu_s[service] / measurement.requests * 1e3 for measurement in measurements]
    how = f"{len(measurements)} measurements, {requests:,} requests, {min(seconds):.3f}..{max(seconds):.3f}"
    value = sum(measurement.cpu_s[service] for measurement in measurements) / requests * 1e3
    return Figure(name, value, CPU_UNIT, f"scheduler's count over all processes of {service}: {how}", tuple(seconds))


def _wrong(measurements: Sequence[Measurement]) -> int:
    return sum(measurement.wrong_answers for measurement in measurements)


def _of(measurements: Sequence[Measurement], path: Name) -> list[Measurement]:
    return [measurement for measurement in measurements if measurement.path == path]


def _shared(path: Name, life: Life) -> str:
    """Return which other paths the process serves."""
    others = [f"{model}@{stack}" for model, stack in life.starts[0] if (model, stack) != path]
    return f"; the same process serves {', '.join(others)}" if others else ""
