"""Readings while something else runs, and what they say of a stretch."""

import itertools
import time

import pytest

from loadtest.cost.load import LoadError, between, refuse_drift
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


def test_a_wall_clock_that_is_set_moves_no_sample_and_is_refused() -> None:
    moments_ns = itertools.chain([EPOCH_NS], itertools.repeat(0))
    with Sampler(lambda: 0, WAIT_S, wall_ns=lambda: next(moments_ns)) as sampler:
        pass
    assert len(sampler.samples) >= 2
    assert all(moment_ns >= EPOCH_NS for moment_ns, _ in sampler.samples)
    with pytest.raises(LoadError, match=r"the wall clock left the measuring clock by .* ms: it was set"):
        refuse_drift([sampler])


def test_a_wall_clock_that_keeps_its_time_is_not_refused() -> None:
    with Sampler(lambda: 0, WAIT_S) as sampler:
        pass
    refuse_drift([sampler])
    refuse_drift([])


def test_cpu_between_two_moments_is_even_between_two_samples() -> None:
    samples = [(EPOCH_NS, 0), (EPOCH_NS + 10**9, 10**9), (EPOCH_NS + 2 * 10**9, 4 * 10**9)]
    assert between(samples, EPOCH_NS, EPOCH_NS + 2 * 10**9) == pytest.approx(4.0)
    assert between(samples, EPOCH_NS + 5 * 10**8, EPOCH_NS + 15 * 10**8) == pytest.approx(2.0)
