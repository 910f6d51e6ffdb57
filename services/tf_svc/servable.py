"""A loaded version of a model, as the calls see it: what it declares, and functions from arrays to arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

Array = npt.NDArray[Any]


class Declared(NamedTuple):
    """One input of a signature.

    feed: the graph's name for it. data_type: number of tensorflow.DataType. shape: -1 is any size; None any shape.
    """

    alias: str
    feed: str
    data_type: int
    shape: tuple[int, ...] | None


class Signature(NamedTuple):
    """One callable of a SavedModel. inputs, outputs: sorted by alias. run: takes and gives arrays in that order."""

    inputs: tuple[Declared, ...]
    outputs: tuple[str, ...]
    run: Callable[[Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True)
class Servable:
    """One version in memory. definitions: serialized SignatureDefMap."""

    version: int
    signatures: Mapping[str, Signature]
    definitions: bytes


# Load a version folder of a model. Raises services.tf_svc.refusal.LoadError.
Load = Callable[[str, int, Path], Servable]
