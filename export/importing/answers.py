"""Answers of a model, arrays by output name: cut, joined and compared."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.importing.draw import Arrays
from export.parity import close
from servepath.artifacts.spec import EXACT, Tolerance

# How far each output may be off, by its name; an output that is not there may not be off at all.
Tolerances = Mapping[str, Tolerance]
# What is passed on of a runtime's message.
LONGEST = 200
PLACES = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |\S+\.(?:cc|h|cpp):\d+ (?:.*\) )?")


def cut(arrays: Arrays, rows: slice) -> Arrays:
    """Return some rows of every array."""
    return {name: values[rows] for name, values in arrays.items()}


def joined(answers: Sequence[Arrays]) -> Arrays | None:
    """Return answers one below the other, None where their shapes do not allow it."""
    shapes = [{name: values.shape[1:] for name, values in answer.items()} for answer in answers]
    if any(each != shapes[0] for each in shapes):
        return None
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def same(one: Arrays, other: Arrays) -> bool:
    """Return whether two answers are equal, a NaN to a NaN."""
    return one.keys() == other.keys() and all(
        np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f") for name, values in one.items()
    )


def agree(one: Arrays, other: Arrays, tolerances: Tolerances) -> bool:
    """Return whether two answers are equal within the tolerance of each output; whole numbers are equal or not."""
    return one.keys() == other.keys() and all(
        close(values, other[name], tolerances.get(name, EXACT)) for name, values in one.items()
    )


def largest(values: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference of two outputs, leaving out what is not finite; 0 for other shapes."""
    if values.shape != other.shape or not values.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(values.astype(np.float64) - other.astype(np.float64))
    return float(np.max(apart, where=np.isfinite(apart), initial=0.0))


def largest_of(one: Arrays, other: Arrays) -> float:
    """Return the largest difference over all outputs that two answers share."""
    return max((largest(values, other[name]) for name, values in one.items() if name in other), default=0.0)


def scale(values: NDArray[Any]) -> float:
    """Return the largest finite element without its sign; 0 where there is none."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def first_line(error: Exception) -> str:
    """Return the beginning of what a runtime said, without its codes and the places in its sources."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    text = PLACES.sub("", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
