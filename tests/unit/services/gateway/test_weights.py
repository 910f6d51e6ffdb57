"""Which path a call for a model alone goes to."""

import random
from itertools import pairwise
from typing import Any

import pytest

from servepath.protocols.types import Request
from services.dataplane.backend import Call
from services.gateway.router import WeightedRouter, share_of
from tests.binomial import bounds

CALLS = 20_000


class Chain:
    """Notes the calls that it gets."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def submit(self, call: Call) -> None:
        self.calls.append(call)


def routed(weights: dict[str, float], keys: list[str], seed: int = 0) -> list[str]:
    """Return the name under which each call went on; a call for each key, "" for none."""
    chains: Any = {name: Chain() for name in weights}
    router = WeightedRouter(chains, weights, random.Random(seed).random)  # noqa: S311 - calls, not secrets
    calls = [Call(Request("m", 0, ()), 0.0) for _ in keys]
    for call, key in zip(calls, keys, strict=True):
        call.key = key
        router.submit(call)
    for name, chain in chains.items():
        assert all(call.name == name for call in chain.calls)
    return [call.name for call in calls]


@pytest.mark.parametrize("seed", range(5))
def test_calls_without_a_key_are_split_within_binomial_bounds(seed: int) -> None:
    found = routed({"m@a": 90.0, "m@b": 10.0}, [""] * CALLS, seed)
    low, high = bounds(CALLS, 0.1)
    assert (low, high) == (1801, 2205)
    assert low <= found.count("m@b") <= high


def test_keys_are_split_as_evenly_and_each_stays_where_it_is() -> None:
    keys = [f"account-{number}" for number in range(CALLS)]
    found = routed({"m@a": 90.0, "m@b": 10.0}, keys)
    low, high = bounds(CALLS, 0.1)
    assert low <= found.count("m@b") <= high
    assert routed({"m@a": 90.0, "m@b": 10.0}, keys, seed=7) == found


def test_a_weight_that_grows_takes_keys_and_gives_none_back() -> None:
    keys = [f"session {number}" for number in range(2000)]
    steps = [set[str]()]
    for percent in (0.01, 1.0, 12.5, 50.0, 100.0):
        found = routed({"m@a": 100.0 - percent, "m@b": percent}, keys)
        steps.append({key for key, name in zip(keys, found, strict=True) if name == "m@b"})
    assert all(before <= after for before, after in pairwise(steps))
    assert len(steps[-1]) == len(keys)


def test_a_path_of_no_weight_gets_nothing_and_rounding_leaves_nobody_out() -> None:
    assert set(routed({"m@a": 0.0, "m@b": 100.0}, [""] * 100)) == {"m@b"}
    chains: Any = {name: Chain() for name in ("m@a", "m@b", "m@c")}
    router = WeightedRouter(chains, {"m@a": 33.33, "m@b": 33.33, "m@c": 33.34}, lambda: 1 - 2**-53)
    router.submit(Call(Request("m", 0, ()), 0.0))
    assert len(chains["m@c"].calls) == 1


def test_a_key_is_at_one_place_in_every_process() -> None:
    assert share_of("account-1") == pytest.approx(0.1456, abs=1e-4)
    assert 0 <= share_of("\u00e9" * 1000) < 1
