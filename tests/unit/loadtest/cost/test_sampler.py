"""Readings while something else runs, and what they say of a stretch."""

import itertools
import time

import pytest

from loadtest.cost.load import between
from loadtest.cost.sampler import Sampler
from tests.limits import LONG_S

WAIT_S = LONG_S
EPOCH_NS = 1_790_000_000_000_000_000


def test_a_sampler_reads_before_while_and_after() -> None:
    numbers = itertools.count()
    with Sampler(lambda: next(numbers), 0.001) as sampler:
        deadline = time.monotonic() + WAIT_S
        while len(sampler.samples) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
    readings = [reading for _, reading in sampler.samples]
    assert readings == list(range(len(readings)))
    assert len(readings) >= 3
    assert sampler.samples == sorted(sampler.samples)


def test_what_a_reading_raises_is_raised_in_the_end() -> None:
    def read() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), Sampler(read, 1):
        pass


def test_cpu_between_two_moments_is_even_between_two_samples() -> None:
    samples = [(EPOCH_NS, 0), (EPOCH_NS + 10**9, 10**9), (EPOCH_NS + 2 * 10**9, 4 * 10**9)]
    assert between(samples, EPOCH_NS, EPOCH_NS + 2 * 10**9) == pytest.approx(4.0)
    assert between(samples, EPOCH_NS + 5 * 10**8, EPOCH_NS + 15 * 10**8) == pytest.approx(2.0)
