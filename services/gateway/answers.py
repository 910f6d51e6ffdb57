"""Whether an answer agrees with another one: each output's numbers within its tolerance, all else alike.

No numpy: a few rows are compared.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from functools import partial
from struct import unpack as unpack_struct
from typing import Any

from servepath.artifacts.spec import COARSEST, Spec, Tolerance
from servepath.protocols.tensors import ITEM_BYTES, unpack
from servepath.protocols.types import Tensor

# Of an output that is wrong, in messages.
SHOWN = 4
# Elements of an answer that are compared: 2**18 take 0.1 s (x86_64, 2026-11-29).
MAX_ELEMENTS = 2**18


def compared(
    spec: Spec,
    outputs: Sequence[Tensor],
    wanted: Mapping[str, Tensor],
    known_by: str = "the reference",
    *,
    values_shown: bool = True,
) -> tuple[float, str]:
    """Return the largest difference of numbers, and what is first beyond its tolerance, "" where nothing is.

    known_by: who says what is wanted, in that text. values_shown: whether it may hold values of the answers.
    """
    found, worst, wrong = {tensor.name: tensor for tensor in outputs}, 0.0, ""
    for output in spec.outputs:
        own, reference = found.get(output.name), wanted[output.name]
        if own is None or own.shape != reference.shape or own.dtype != output.dtype:
            shown = f"{own.dtype} {list(own.shape)}" if own else "missing"
            return math.inf, f"output {output.name!r} is {shown}, expected {output.dtype} {list(reference.shape)}"
        if own.dtype == "BF16":  # nobody here can read it, and no import takes it
            continue
        values, known = _values(own), _values(reference)
        apart = [_apart(one, other) for one, other in zip(values, known, strict=True)] if own.dtype != "BYTES" else []
        worst = max(worst, max(apart, default=0.0))
        tolerance = spec.tolerance_of(output)
        if not wrong and not _agrees(tolerance, values, known, reference.shape):
            if values_shown:
                wrong = f"is {_shown(values, apart)}, {known_by} says {_shown(known, apart)}"
                wrong += f": {max(apart):.2g} apart, beyond {tolerance}" if apart else ""
            else:
                off = f"is {max(apart):.2g} apart" if apart else "differs"
                wrong = f"{off} from that of {known_by}, beyond {tolerance}"
            wrong = f"output {output.name!r} {wrong}"
    return worst, wrong


def _apart(one: float, other: float) -> float:
    """Return how far two numbers are apart: infinitely where one alone is finite."""
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other)
    return 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else math.inf


def _shown(values: Sequence[Any], apart: Sequence[float]) -> str:
    """Return some values, from the one on that is furthest off."""
    begin = apart.index(max(apart)) if apart else 0
    shown = (f"{value:.6g}" if isinstance(value, float) else repr(value) for value in values[begin : begin + SHOWN])
    return f"[{', '.join(shown)}]"


def _agrees(tolerance: Tolerance, own: Sequence[Any], reference: Sequence[Any], shape: Sequence[int]) -> bool:
    if not own or not isinstance(own[0], float):
        return list(own) == list(reference)
    if not tolerance.by_vector:
        return all(map(partial(_near, tolerance), own, reference))
    width = shape[-1] if shape else 1
    return all(
        _vector_agrees(tolerance, own[at : at + width], reference[at : at + width]) for at in range(0, len(own), width)
    )


def _near(tolerance: Tolerance, own: float, reference: float) -> bool:
    """Return whether two numbers agree: a NaN with a NaN alone, and an infinity with itself."""
    if math.isfinite(reference):
        return bool(abs(own - reference) <= tolerance.limits(reference))
    return own == reference or (math.isnan(own) and math.isnan(reference))


def _vector_agrees(tolerance: Tolerance, own: Sequence[float], reference: Sequence[float]) -> bool:
    if not all(map(math.isfinite, own)) or not all(map(math.isfinite, reference)):
        pairs = list(zip(own, reference, strict=True))
        finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if not all(_near(tolerance, *pair) for pair in pairs if not all(map(math.isfinite, pair))):
            return False
        if not finite:
            return True
        own, reference = [one for one, _ in finite], [other for _, other in finite]
    if tolerance.cosine is not None:
        one, other = math.hypot(*own), math.hypot(*reference)
        return (one > 0) == (other > 0) and sum(map(operator.mul, own, reference)) >= tolerance.cosine * one * other
    best, most = max(reference), tolerance.top_k or 1
    alike = all(abs(each - reference[0]) <= COARSEST * abs(each) for each in reference)
    if max(own) == min(own) and not alike and most < len(own):
        return False
    highest = max((each for each, known in zip(own, reference, strict=True) if known == best), default=-math.inf)
    return sum(each > highest for each in own) < most


def _values(tensor: Tensor) -> Sequence[Any]:
    if tensor.dtype == "FP16":
        return unpack_struct(f"<{len(tensor.data) // ITEM_BYTES['FP16']}e", tensor.data)
    return unpack(tensor.dtype, tensor.data)
