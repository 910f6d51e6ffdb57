"""Inputs drawn for a model whose file says dtype and shape of each, and perhaps what elements may be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.arrays import DTYPES

Arrays = Mapping[str, NDArray[Any]]
Sizes = Mapping[str, int]
# Where nobody says it: whole numbers may be places in a table, so they stay low; masks and flags are of these, too.
FLOATS, INTEGERS = (-1.0, 1.0), (0.0, 1.0)


def sized(tensor: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    """Return the tensor's shape with its open axes at these sizes."""
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)


def draw(tensors: Sequence[TensorSpec], sizes: Sizes, ranges: Mapping[str, tuple[float, float]], seed: int) -> Arrays:
    """Return inputs by name, uniform in their ranges (both ends of whole numbers included); the same for one seed."""
    random = np.random.default_rng(seed)
    return {t.name: _values(random, t.dtype, sized(t, sizes), ranges.get(t.name)) for t in tensors}


def _values(
    random: np.random.Generator, dtype: str, shape: tuple[int, ...], limits: tuple[float, float] | None
) -> NDArray[Any]:
    kind = np.dtype(DTYPES[dtype])
    if kind.kind == "b":
        return random.integers(0, 1, shape, endpoint=True).astype(kind)
    if kind.kind == "f":
        return random.uniform(*(limits or FLOATS), shape).astype(kind)
    low, high = (int(end) for end in limits or INTEGERS)
    return random.integers(low, high, shape, dtype=np.int64, endpoint=True).astype(kind)
