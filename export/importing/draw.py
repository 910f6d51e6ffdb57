"""Inputs drawn for a model whose file says dtype and shape of each, and perhaps what elements may be."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servepath.artifacts.spec import FRACTIONS, TensorSpec
from servepath.protocols.arrays import DTYPES

Arrays = Mapping[str, NDArray[Any]]
Sizes = Mapping[str, int]
FLOATS = (-1.0, 1.0)
# Of whole numbers, where nobody says it, the first range that the model takes: bytes and words, then places and flags.
INTEGERS = ((0.0, 255.0), (0.0, 1.0))
# Of the quantized.
INT8 = (-128.0, 127.0)
# Inputs with such a word in their name are flags.
FLAGS = re.compile(r"(?:^|_)(?:mask|type|types)(?:_|$)")
# Those with this one say which places of a row are there: ones, then zeros, as who fills rows up to one length does. A
# row of zeros alone asks for an average over nothing, which each runtime answers in its own way.
MASK_AXES = 2
MASK = re.compile(r"(?:^|_)mask(?:_|$)")


def sized(tensor: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    """Return the tensor's shape with its open axes at these sizes."""
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)


def integer_ranges(tensors: Sequence[TensorSpec], known: Iterable[str]) -> Iterator[dict[str, tuple[float, float]]]:
    """Yield the ranges to try for the inputs of whole numbers whose range is not known."""
    wide = [t for t in tensors if np.dtype(DTYPES[t.dtype]).kind in "iu" and t.name not in known]
    wide = [t for t in wide if not FLAGS.search(t.name)]
    for limits in INTEGERS if wide else INTEGERS[-1:]:
        yield {t.name: INT8 if t.dtype == "INT8" and limits is INTEGERS[0] else limits for t in wide}


def draw(tensors: Sequence[TensorSpec], sizes: Sizes, ranges: Mapping[str, tuple[float, float]], seed: int) -> Arrays:
    """Return inputs by name, uniform in their ranges (both ends of whole numbers included); the same for one seed."""
    random = np.random.default_rng(seed)
    return {t.name: _drawn(random, t, sized(t, sizes), ranges.get(t.name)) for t in tensors}


def is_mask(tensor: TensorSpec) -> bool:
    """Return whether an input says which places of its rows are there."""
    return len(tensor.shape) == MASK_AXES and tensor.dtype not in FRACTIONS and bool(MASK.search(tensor.name))


def _drawn(
    random: np.random.Generator, tensor: TensorSpec, shape: tuple[int, ...], limits: tuple[float, float] | None
) -> NDArray[Any]:
    if limits is not None or not is_mask(tensor):
        return _values(random, tensor.dtype, shape, limits)
    rows, places = shape
    there = random.integers(1, max(places, 1), (rows, 1), endpoint=True)
    return (np.arange(places) < there).astype(DTYPES[tensor.dtype])


def _values(
    random: np.random.Generator, dtype: str, shape: tuple[int, ...], limits: tuple[float, float] | None
) -> NDArray[Any]:
    kind = np.dtype(DTYPES[dtype])
    if kind.kind == "b":
        return random.integers(0, 1, shape, endpoint=True).astype(kind)
    if kind.kind == "f":
        return random.uniform(*(limits or FLOATS), shape).astype(kind)
    low, high = (int(end) for end in limits or INTEGERS[-1])
    return random.integers(low, high, shape, dtype=np.int64, endpoint=True).astype(kind)
