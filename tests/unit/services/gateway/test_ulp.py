"""Distances in units in the last place, held to numpy's own next numbers."""

import numpy as np
import pytest

from servepath.protocols.arrays import from_values
from services.gateway.ulp import ulp_distance

TYPES = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
# The bits of each, as an integer.
INTEGERS = {"FP16": np.int16, "FP32": np.int32, "FP64": np.int64}


def distance(dtype: str, one: object, other: object) -> int | None:
    return ulp_distance(from_values("y", dtype, one), from_values("y", dtype, other))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_number_is_as_far_from_another_as_numpy_takes_steps_between_them(dtype: str) -> None:
    kind, rng = TYPES[dtype], np.random.default_rng(7)
    bits = np.iinfo(INTEGERS[dtype])
    drawn = rng.integers(bits.min, bits.max, 500, dtype=INTEGERS[dtype]).view(kind)
    numbers = [*drawn[np.isfinite(drawn)], kind(0), np.finfo(kind).tiny, -np.finfo(kind).tiny]
    for number in map(kind, numbers):
        steps, target = int(rng.integers(1, 40)), number
        for _ in range(steps):
            target = np.nextafter(target, -number if number else kind(1), dtype=kind)
        assert distance(dtype, [number], [target]) == distance(dtype, [target], [number]) == steps


@pytest.mark.parametrize("dtype", TYPES)
def test_within_a_power_of_two_it_is_the_difference_in_spacings(dtype: str) -> None:
    kind = TYPES[dtype]
    one, other = kind(1.125), kind(1.5)
    assert distance(dtype, [one], [other]) == (other - one) / np.spacing(one)


@pytest.mark.parametrize("dtype", TYPES)
def test_zeros_nans_and_infinities_are_as_far_from_their_like_as_they_look(dtype: str) -> None:
    assert distance(dtype, [0.0, np.nan, np.inf, -np.inf], [-0.0, -np.nan, np.inf, -np.inf]) == 0
    assert (
        distance(dtype, [-np.finfo(TYPES[dtype]).smallest_subnormal], [np.finfo(TYPES[dtype]).smallest_subnormal]) == 2
    )


@pytest.mark.parametrize(("one", "other"), [(np.nan, 1.0), (np.inf, 1.0), (np.inf, -np.inf), (np.inf, np.nan)])
def test_there_is_none_where_one_alone_is_finite(one: float, other: float) -> None:
    assert distance("FP32", [1.0, one], [1.0, other]) is None
    assert distance("FP32", [1.0, other], [1.0, one]) is None


def test_the_largest_of_several_counts() -> None:
    next_one = np.nextafter(np.float32(3), np.float32(4))
    assert distance("FP32", [[1, 2], [3, 4]], [[1, 2], [next_one, 4]]) == 1
    assert distance("FP32", [], []) == 0


def test_there_is_none_between_other_types_and_shapes() -> None:
    assert distance("INT64", [1], [1]) is None
    assert ulp_distance(from_values("y", "FP32", [1.0]), from_values("y", "FP64", [1.0])) is None
    assert distance("FP32", [1.0], [[1.0]]) is None
