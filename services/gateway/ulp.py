"""How far floating-point numbers are apart in units in the last place (ULP), without numpy.

The bits of IEEE 754 numbers, read as sign and magnitude, are in the order of the numbers and have no gaps: the
difference of two such integers is how many steps lie between two numbers, over zero and over powers of two, too.
"""

import math
from struct import unpack

from servepath.protocols.types import Tensor

# dtype: struct's codes of the number and of a signed integer of as many bits, and that many.
FORMS = {"FP16": ("e", "h", 16), "FP32": ("f", "i", 32), "FP64": ("d", "q", 64)}


def ulp_distance(one: Tensor, other: Tensor) -> int | None:
    """Return the largest distance of two tensors' elements; NaN is 0 from NaN, and an infinity from itself.

    None where there is none: for other dtypes, other shapes, and where one of two elements alone is finite.
    """
    if one.dtype not in FORMS or (one.dtype, one.shape) != (other.dtype, other.shape):
        return None
    number, integer, bits = FORMS[one.dtype]
    count, magnitude = 8 * len(one.data) // bits, 2 ** (bits - 1) - 1
    values = zip(*(unpack(f"<{count}{number}", each.data) for each in (one, other)), strict=True)
    steps = zip(*(unpack(f"<{count}{integer}", each.data) for each in (one, other)), strict=True)
    largest = 0
    for (value, other_value), (step, other_step) in zip(values, steps, strict=True):
        if math.isfinite(value) and math.isfinite(other_value):
            largest = max(largest, abs(_ordered(step, magnitude) - _ordered(other_step, magnitude)))
        elif value != other_value and not (math.isnan(value) and math.isnan(other_value)):
            return None
    return largest


def _ordered(step: int, magnitude: int) -> int:
    return step if step >= 0 else -(step & magnitude)
