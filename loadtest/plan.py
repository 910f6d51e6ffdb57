"""What a run measures: which deployment paths, reached how, in which order."""

import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from servepath.protocols import deployments_file, stacks
from servepath.protocols.deployments import Deployments, DeploymentsError
from servepath.protocols.stacks import PATH_STACKS
from servepath.results.names import NO_OP_NAME, key_of, rows_file
from servepath.settings import SettingsError


class ServingPath(NamedTuple):
    """A model on a stack, written MODEL@STACK."""

    model: str
    stack: str

    def __str__(self) -> str:
        return f"{self.model}@{self.stack}"


class Measurement(NamedTuple):
    """One stretch of load on one path, direct or through the gateway; its text names files and Locust's rows.

    side: which of several servers of the same path, where a run compares such (--side); else empty.
    """

    path: ServingPath
    via: str
    side: str = ""

    def __str__(self) -> str:
        return key_of(str(self.path), self.via, self.side)

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form in run.json."""
        named = {"model": self.path.model, "stack": self.path.stack, "via": self.via}
        return named | ({"side": self.side} if self.side else {})


class Turn(NamedTuple):
    """One measurement in one round, counted from 0; its text names the file of its rows."""

    round: int
    measurement: Measurement

    def __str__(self) -> str:
        return rows_file(self.round, str(self.measurement))


# A server that does nothing (loadtest/no_op.py): what a request to it takes is the instrument's own part. No path.
NO_OP = Measurement(ServingPath(NO_OP_NAME, NO_OP_NAME), "direct")


def read_deployments(file: Path) -> Deployments:
    """Read deployments.toml. Raises SettingsError naming file, line and key."""
    try:
        return deployments_file.read_deployments(file)
    except DeploymentsError as error:
        raise SettingsError(str(error)) from error


def read_paths(file: Path) -> list[ServingPath]:
    """Return the paths of deployments.toml, in its order. Raises SettingsError naming file, line and key."""
    return [ServingPath(*path) for path in read_deployments(file).paths]


def read_own_paths(file: Path) -> list[ServingPath]:
    """Return the paths of deployments.toml less those on external servers, which nothing here starts or knows."""
    return [path for path in read_paths(file) if path.stack in PATH_STACKS]


def choose(known: Sequence[ServingPath], wanted: str) -> list[ServingPath]:
    """Return the paths of a comma-separated list, or all of them for "all". Raises ValueError naming the known ones."""
    if wanted == "all":
        return list(known)
    by_name = {str(path): path for path in known}
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in by_name:
            raise ValueError(f"{name!r} is not a path; known: {', '.join(by_name)}, or all")
    return [by_name[name] for name in dict.fromkeys(names)]


def measurements_of(
    paths: Sequence[ServingPath], vias: Sequence[str], sides: Sequence[str] = ("",)
) -> list[Measurement]:
    """Return one measurement for each path, way and side, and the no-op server's."""
    return [*(Measurement(path, via, side) for path in paths for via in vias for side in sides), NO_OP]


def within_reach(measurements: Sequence[Measurement], targets: Collection[str]) -> list[Measurement]:
    """Return the measurements whose server is in `targets` ("gateway", stack names), and the no-op server's."""
    return [measurement for measurement in measurements if measurement == NO_OP or server_of(measurement) in targets]


def server_of(measurement: Measurement) -> str:
    """Return which server is called: "gateway", or the path's stack without its precision."""
    return measurement.via if measurement.via == "gateway" else stacks.server_of(measurement.path.stack)


def servers_of(measurement: Measurement) -> list[str]:
    """Return every server on the way to a path: its own and, where it is called through that, the gateway."""
    return list(dict.fromkeys([stacks.server_of(measurement.path.stack), server_of(measurement)]))


def draw(measurements: Sequence[Measurement], rounds: int, seed: int) -> list[Turn]:
    """Return every measurement once per round, in an order drawn for each round, so that no path always runs first."""
    return [turn for number in range(rounds) for turn in draw_round(measurements, number, seed)]


def draw_round(measurements: Sequence[Measurement], number: int, seed: int) -> list[Turn]:
    """Return the turns of one round, counted from 0."""
    order = list(measurements)
    random.Random(f"{seed}/{number}").shuffle(order)  # noqa: S311 - an order, not a secret
    return [Turn(number, measurement) for measurement in order]
