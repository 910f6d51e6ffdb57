"""What a run measures: which deployment paths, reached how, in which order."""

import random
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.config import ConfigError
from services.wire.stacks import STACKS
from store.names import ModelNameError, check_model_name

VIAS = ("direct", "gateway")
OPEN_POISSON, OPEN_CONSTANT, CLOSED = LOAD_MODELS = ("open loop, poisson", "open loop, constant", "closed loop")


class ServingPath(NamedTuple):
    """A model on a stack, written MODEL@STACK."""

    model: str
    stack: str

    def __str__(self) -> str:
        return f"{self.model}@{self.stack}"


class Block(NamedTuple):
    """One stretch of load on one path, direct or through the gateway; its text names files and Locust's rows.

    side: which of several servers of the same path, where a run compares such (--side); else empty.
    """

    path: ServingPath
    via: str
    side: str = ""

    def __str__(self) -> str:
        return f"{self.path}.{self.via}" + (f"~{self.side}" if self.side else "")

    def to_dict(self) -> dict[str, str]:
        """Give what run.json calls it."""
        named = {"model": self.path.model, "stack": self.path.stack, "via": self.via}
        return named | ({"side": self.side} if self.side else {})


class Turn(NamedTuple):
    """One block in one round, counted from 0; its text names the file of its rows."""

    round: int
    block: Block

    def __str__(self) -> str:
        return f"r{self.round:02d}-{self.block}"


# A server that does nothing (loadtest/null.py): what a request to it takes is the instrument's own part. No path.
NULL = Block(ServingPath("null", "null"), "direct")


def read_paths(deployments: Path) -> list[ServingPath]:
    """Give the paths of deployments.toml, in its order. Raises ConfigError naming the file and the entry."""
    try:
        models = tomllib.loads(deployments.read_text())["models"]
        paths = [ServingPath(model, stack) for model, entry in models.items() for stack in entry["stacks"]]
    except FileNotFoundError as error:
        raise ConfigError(f"{deployments} is missing; run from the project's root or give --deployments") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{deployments} is not a list of paths ({error!r}); see docs/add-a-path.md") from error
    for path in paths:
        try:
            check_model_name(path.model)
        except ModelNameError as error:
            raise ConfigError(f"{deployments}: {error}") from error
        if path.stack not in STACKS:
            raise ConfigError(f"{deployments}: {path} names an unknown stack; known: {', '.join(STACKS)}")
    return paths


def choose(known: Sequence[ServingPath], wanted: str) -> list[ServingPath]:
    """Give the paths of a comma-separated list, or all of them for "all". Raises ValueError naming the known ones."""
    if wanted == "all":
        return list(known)
    by_name = {str(path): path for path in known}
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in by_name:
            raise ValueError(f"{name!r} is no path; known: {', '.join(by_name)}, or all")
    return [by_name[name] for name in dict.fromkeys(names)]


def blocks_of(paths: Sequence[ServingPath], vias: Sequence[str], sides: Sequence[str] = ("",)) -> list[Block]:
    """Give one block for each path, way and side, and the null endpoint's."""
    return [*(Block(path, via, side) for path in paths for via in vias for side in sides), NULL]


def within_reach(blocks: Sequence[Block], targets: Collection[str]) -> list[Block]:
    """Give the blocks whose server is among `targets` ("gateway", stack names), and the null endpoint's."""
    return [block for block in blocks if block == NULL or server_of(block) in targets]


def server_of(block: Block) -> str:
    """Give who is asked: "gateway", or the path's stack."""
    return block.via if block.via == "gateway" else block.path.stack


def draw(blocks: Sequence[Block], rounds: int, seed: int) -> list[Turn]:
    """Give every block once in each round, in an order drawn anew from the seed, so that no path always runs first."""
    turns = []
    for number in range(rounds):
        order = list(blocks)
        random.Random(f"{seed}/{number}").shuffle(order)  # noqa: S311 - an order, not a secret
        turns += [Turn(number, block) for block in order]
    return turns
