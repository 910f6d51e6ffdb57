"""Whether an engine answers what the model's reference says on the device that it serves on, and in batches.

The export proved both on the machine that it ran on. Another device adds in another order, or rounds to fewer bits of
its own accord, and there a batch may differ from its rows.
"""

import contextlib
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from servepath.artifacts.reference import Reference
from servepath.protocols.arrays import to_array
from servepath.protocols.errors import BadInput
from servepath.protocols.probes import Expected, fault, probe_request
from servepath.protocols.tensors import row_offsets
from servepath.protocols.types import Tensor
from services.dataplane.engine import Engine, EngineError, RunError

# Rows of each group that are asked alone, and what all batches together may take, by what one row took: a start must
# not wait for a heavy model, whose batches are then smaller (of 64 rows, a sentence encoder took 13 s here).
ALONE, BATCHES_S = 2, 1.0
AT_ONCE, MEET_S = 2, 10.0


class Proof(NamedTuple):
    """What an engine showed. difference: its largest from the reference, of rows alone; None where there is none.

    why_unbatched: what is wrong with its batches, "" where nothing is.
    """

    difference: float | None
    why_unbatched: str = ""


def prove(engine: Engine, reference: Reference, max_rows: int, max_bytes: int) -> Proof:
    """Return what the engine shows when it is asked rows of the reference alone, and up to `max_rows` together.

    max_bytes: of a batch's inputs; a larger one is never joined, and memory has an end. Raises EngineError where an
    answer to rows alone is beyond the tolerance: such a model is not served.
    """
    worst, slowest_s = 0.0, 0.0
    groups = range(len(reference.groups))
    for group in groups:
        for pick in _singles(reference, group):
            began = perf_counter()
            difference, wrong = _asked(engine, reference, group, pick)
            slowest_s = max(slowest_s, perf_counter() - began)
            worst = max(worst, difference)
            if wrong:
                raise EngineError(
                    f"{reference.model}: {engine.name} {engine.version} is {difference:.2g} away from the reference, "
                    f"beyond {reference.spec.tolerance}: this device computes otherwise than the export proved. Serve "
                    "it on another device, or import it with a [tolerance] that allows the difference"
                )
    affordable = min(max_rows, int(BATCHES_S / len(groups) / max(slowest_s, 1e-9)))
    for group in groups if max_rows > 1 else ():
        rows = max(2, min(affordable, max_bytes // max(_row_bytes(reference, group), 1)))
        try:
            difference, wrong = _asked(engine, reference, group, np.resize(np.arange(_count(reference, group)), rows))
        except EngineError as error:
            return Proof(worst, f"in a batch of {rows} rows, {error}")
        if wrong:
            what = f"{difference:.2g} away from the reference, rows alone {worst:.2g}"
            return Proof(worst, f"in a batch of {rows} rows, {engine.name} {engine.version} is {what}")
    return Proof(worst)


class RowByRow:
    """An engine whose batches are computed a row at a time, so that they equal their rows."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.version, self.slow_first_runs = engine.name, engine.version, engine.slow_first_runs
        self.declared = engine.declared
        self._engine = engine

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the named outputs. Raises what the engine raises."""
        rows = inputs[0].shape[0]
        if rows <= 1:
            return self._engine.run(inputs, outputs)
        cut = [_rows(tensor) for tensor in inputs]
        parts = [self._engine.run(row, outputs) for row in zip(*cut, strict=True)]
        return tuple(_stacked(tensors) for tensors in zip(*parts, strict=True))


def _count(reference: Reference, group: int) -> int:
    return len(reference.groups[group][reference.spec.inputs[0].name]) if reference.spec.by_rows else 1


def _row_bytes(reference: Reference, group: int) -> int:
    return sum(int(reference.groups[group][tensor.name][:1].nbytes) for tensor in reference.spec.inputs)


def _singles(reference: Reference, group: int) -> Sequence[Any]:
    """Return what is asked of a group for itself: its first rows, or all of it where the model has no rows."""
    if not reference.spec.by_rows:
        return (...,)
    return [slice(row, row + 1) for row in range(min(ALONE, _count(reference, group)))]


def _asked(engine: Engine, reference: Reference, group: int, pick: Any) -> tuple[float, bool]:
    """Return the largest difference of the answers to some rows, and whether one is beyond the tolerance.

    They are asked twice at the same time: a run beside another may be computed otherwise than one alone. (Runs of some
    microseconds may miss each other.)
    """
    asked = probe_request(reference, pick, group)
    names = [want.name for want in asked.expected]
    both = threading.Barrier(AT_ONCE)

    def run(_: int) -> Sequence[Tensor]:
        with contextlib.suppress(threading.BrokenBarrierError):  # where no second thread can be had, one must not hang
            both.wait(MEET_S)
        return engine.run(asked.request.inputs, names)

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(run, range(AT_ONCE)))
    except (BadInput, RunError) as error:
        who = f"{reference.model}: {engine.name} {engine.version}"
        raise EngineError(f"{who} does not run the reference's rows: {error}") from error
    differences = [_largest(outputs, asked.expected) for outputs in answers]
    return max(differences), any(fault(outputs, asked.expected) for outputs in answers)


def _largest(outputs: Sequence[Tensor], expected: Sequence[Expected]) -> float:
    """Return the largest difference; infinite where a shape differs, or where one of two alone is finite."""
    largest = 0.0
    for tensor, want in zip(outputs, expected, strict=True):
        values = to_array(tensor)
        if values.dtype.kind not in "fiu":
            continue
        if values.shape != want.values.shape:
            return math.inf
        one, other = values.astype(np.float64), want.values.astype(np.float64)
        both = np.isfinite(one) & np.isfinite(other)
        if (np.isfinite(one) != np.isfinite(other)).any():
            return math.inf
        largest = max(largest, float(np.abs(one[both] - other[both]).max(initial=0.0)))
    return largest


def _rows(tensor: Tensor) -> list[Tensor]:
    shape, ends = (1, *tensor.shape[1:]), row_offsets(tensor)
    return [tensor._replace(shape=shape, data=tensor.data[begin:end]) for begin, end in pairwise(ends)]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    first = parts[0]
    return first._replace(shape=(len(parts), *first.shape[1:]), data=b"".join(part.data for part in parts))
