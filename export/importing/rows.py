"""How far a model's answers may be off elsewhere, and whether its rows depend on each other.

Two questions with two measures. Whether a row depends on others is asked in batches of one size, where the runtime does
the same additions in the same order: there a few last bits are all that may change. How far another runtime, or another
batch, may be off is what the last bit of every input changes, and what a row differs alone and in a batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.importing.answers import agree, cut, joined, largest, scale
from export.importing.draw import Arrays, Sizes, is_mask
from export.importing.errors import Refused
from export.importing.trial import Trial
from servepath.artifacts.spec import BATCH, Spec, TensorSpec, Tolerance

# More rows than one, and no power of two; and as many as a server joins.
BATCH_ROWS, MOST_ROWS = 7, 64
# How many times as long a row is made by zeros.
PADDED_BY = 3
# Runtimes add in different orders: how much more than the effect of the last bit of every input they may differ.
MARGIN = 8.0
# Last bits that the same additions may change.
SAME_BITS = 16
# What another order of additions may change, as a share of the largest answer, at least and in last bits.
NOISE, NOISE_BITS = 1e-3, 8
# What other runtimes may differ at least, in last bits of the largest answer.
ATOL_BITS = 256
# A tolerance above this share of the largest answer would let any answer pass.
LARGEST_SHARE = 0.01
RTOL = {"float16": 2.0**-7, "float32": 1e-4, "float64": 1e-9}


def find_tolerances(trial: Trial, asked: Arrays, answer: Arrays) -> dict[str, Tolerance]:
    """Return the tolerance of each output that has fractions. Raises Refused where none would mean anything."""
    outputs = {name: values for name, values in answer.items() if values.dtype.kind == "f"}
    if trial.hints.tolerance is not None:
        return dict.fromkeys(outputs, trial.hints.tolerance)
    eps = _coarsest(asked, answer)
    effects = dict.fromkeys(outputs, 0.0)
    for sign in (1, -1):
        nudged = trial.answer({name: _nudged(values, sign * eps) for name, values in asked.items()})
        effects = {name: max(effect, largest(nudged[name], outputs[name])) for name, effect in effects.items()}
    return {name: _tolerance(name, values, MARGIN * effects[name], eps) for name, values in outputs.items()}


def _tolerance(name: str, values: NDArray[Any], effect: float, eps: float) -> Tolerance:
    size = scale(values)
    atol = max(effect, min(ATOL_BITS * eps, LARGEST_SHARE / 2) * size)
    if size and effect > max(LARGEST_SHARE, SAME_BITS * eps) * size:
        raise Refused(
            f"output {name!r} changes by {effect / MARGIN:.2g} of {size:.2g} with the last bit of its inputs: no two "
            "runtimes can be compared so; say a [tolerance], or other [ranges], in a spec file (--spec)"
        )
    return Tolerance(RTOL[values.dtype.name], atol)


def find_rows(
    trial: Trial, base: Sizes, tolerances: dict[str, Tolerance], most: int = MOST_ROWS
) -> tuple[bool, dict[str, Tolerance]]:
    """Return whether rows are independent, and the tolerances with what a row differs alone and in a batch.

    most: rows of the largest batch that is tried. Notes why they are not. Raises Failed where they cannot be tried.
    """
    count = min(BATCH_ROWS, most)
    batch, others = (trial.draw({**base, BATCH: count}, seed) for seed in (3, 5))
    together = trial.answer(batch)
    bits = {name: _bits(values, SAME_BITS, _coarsest(batch, together)) for name, values in together.items()}
    first, order = slice(1), np.random.default_rng(4).permutation(count)
    mixed = {name: np.concatenate([values[:1], others[name][1:]]) for name, values in batch.items()}
    shuffled = trial.answer({name: values[order] for name, values in batch.items()})
    single = joined([trial.answer(cut(batch, slice(row, row + 1))) for row in range(count)])
    noise = {name: _noise(values, _coarsest(batch, together)) for name, values in together.items()}
    # An open axis that the data decides has another size in each answer: such rows cannot be joined.
    if (
        single is None
        or not agree(cut(trial.answer(mixed), first), cut(together, first), bits)
        or not agree(shuffled, {name: values[order] for name, values in together.items()}, bits)
        or not agree(together, single, noise)
    ):
        trial.notes.append("a row's answer depends on the other rows of its batch: requests are never batched")
        return False, tolerances
    if not _differ(list(together.values())):
        trial.notes.append("all rows that were tried have one answer, which proves nothing: requests are never batched")
        return False, tolerances
    trial.answer(trial.draw({**base, BATCH: most}, seed=6))
    return True, _widened(trial, tolerances, together, single)


def find_padded(trial: Trial, base: Sizes, spec: Spec) -> tuple[Spec, list[str]]:
    """Return the spec with the axes along which zeros may be added, and the notes on them.

    Tried is where a mask of the model's says which places are there: another model may give the same answers by chance,
    as one that takes the largest of a row does until all of it is below zero. The tolerance grows with what zeros
    change, as it does with batches. Raises Failed.
    """
    notes: list[str] = []
    for axis in trial.axes:
        having = [tensor for tensor in spec.inputs if axis in tensor.shape]
        if axis == BATCH or not spec.may_pad(axis) or not any(map(is_mask, having)):
            continue
        most = spec.max_sizes.get(axis, PADDED_BY * base[axis])
        first = max(1, min(base[axis], most // PADDED_BY))
        rows = min(BATCH_ROWS, spec.max_sizes.get(BATCH, BATCH_ROWS))
        asked = trial.draw({**base, BATCH: rows, axis: first}, seed=7)
        short = trial.answer(asked)
        names = {tensor.name for tensor in having}
        for size in {min(first + 1, most), min(PADDED_BY * first, most)}:
            filled = {n: _filled(values, size) if n in names else values for n, values in asked.items()}
            long = trial.answer(filled)
            noise = {name: _noise(values, _coarsest(asked, short)) for name, values in short.items()}
            if not agree(long, short, noise):
                notes.append(f"zeros along {axis!r} change answers: requests of several sizes are never batched")
                break
            outputs = tuple(_widened_by(trial, tensor, long, short) for tensor in spec.outputs)
            spec = replace(spec, outputs=outputs)
        else:
            spec = replace(spec, padded=(*spec.padded, axis))
    return spec, notes


def _filled(values: NDArray[Any], size: int) -> NDArray[Any]:
    return np.pad(values, [(0, 0), (0, size - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


def _widened_by(trial: Trial, output: TensorSpec, one: Arrays, other: Arrays) -> TensorSpec:
    own = output.tolerance
    if own is None or own.by_vector or trial.hints.tolerance is not None:
        return output
    atol = max(own.atol, MARGIN * largest(one[output.name], other[output.name]))
    return replace(output, tolerance=Tolerance(own.rtol, atol))


def _widened(trial: Trial, tolerances: dict[str, Tolerance], together: Arrays, single: Arrays) -> dict[str, Tolerance]:
    if trial.hints.tolerance is not None:
        return tolerances
    return {
        name: Tolerance(own.rtol, max(own.atol, MARGIN * largest(together[name], single[name])))
        for name, own in tolerances.items()
    }


def _differ(outputs: Sequence[NDArray[Any]]) -> bool:
    """Return whether some output has two rows that are not the same."""
    return any(not np.array_equal(values[1:], values[:-1], equal_nan=values.dtype.kind == "f") for values in outputs)


def _coarsest(*arrays: Arrays) -> float:
    """Return the last bit of the coarsest floats among arrays, 0 where there are none."""
    kinds = [values.dtype for each in arrays for values in each.values() if values.dtype.kind == "f"]
    return max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)


def _nudged(values: NDArray[Any], by: float) -> NDArray[Any]:
    return np.asarray(values * (1 + by), values.dtype) if values.dtype.kind == "f" else values


def _bits(values: NDArray[Any], count: int, eps: float) -> Tolerance:
    return Tolerance(count * eps, count * eps * scale(values)) if values.dtype.kind == "f" else Tolerance(0.0, 0.0)


def _noise(values: NDArray[Any], eps: float) -> Tolerance:
    share = max(NOISE, NOISE_BITS * eps)
    return Tolerance(share, share * scale(values)) if values.dtype.kind == "f" else Tolerance(0.0, 0.0)
