"""Verdicts from raw latencies, through the function that the report calls."""

import numpy as np
import pytest

from report.intervals import Array
from report.verdicts import Hypothesis, Latencies, Verdict, judge, primary_family

PATHS = ("keras_dense@onnx", "keras_dense@tfserving", "simple_nn@onnx", "simple_nn@torchserve")
A, B = "simple_nn@onnx.direct", "simple_nn@torchserve.direct"
LABELS = {A: "simple_nn@onnx direct (onnxruntime 1.27)", B: "simple_nn@torchserve direct (torchserve 0.12.0)"}


def drawn(factors: dict[str, float], rounds: int = 20, requests: int = 700) -> dict[str, list[Array]]:
    rng = np.random.default_rng(1)
    return {
        measurement: [factor * rng.lognormal(7, 0.25, requests) for _ in range(rounds)]
        for measurement, factor in factors.items()
    }


def verdict_on(metric: str, latencies: Latencies) -> Verdict:
    return next(each for each in judge(latencies, LABELS, seed=1) if each.metric == metric)


def test_four_paths_reached_both_ways_are_32_hypotheses() -> None:
    family = primary_family([f"{path}.{via}" for path in PATHS for via in ("direct", "gateway")])
    kinds = [(each.metric, each.family, each.a.rpartition(".")[2], each.b.rpartition(".")[2]) for each in family]
    assert len(set(family)) == len(family) == 32
    for metric in ("p50", "p99"):
        assert kinds.count((metric, "path", "direct", "direct")) == 6
        assert kinds.count((metric, "path", "gateway", "gateway")) == 6
        assert kinds.count((metric, "gateway", "direct", "gateway")) == 4


def test_the_no_op_server_is_in_no_hypothesis() -> None:
    assert primary_family(["null@null.direct", A]) == ()
    assert primary_family(["null@null.direct", A, B]) == (
        Hypothesis("p50", A, B, "path"),
        Hypothesis("p99", A, B, "path"),
    )


def test_a_run_that_compares_sides_decides_on_every_two_sides_of_each_path_and_nothing_else() -> None:
    measurements = ["null@null.direct", *(f"{name}~{side}" for name in (A, B) for side in ("old", "new"))]
    assert primary_family(measurements) == tuple(
        Hypothesis(metric, f"{name}~new", f"{name}~old", "side") for metric in ("p50", "p99") for name in (A, B)
    )


@pytest.mark.parametrize("measurement", ["simple_nn@onnx", "simple_nn@onnx.proxy", "simple_nn.direct"])
def test_what_is_no_block_is_named(measurement: str) -> None:
    with pytest.raises(ValueError, match=f"{measurement!r} is not a measurement"):
        primary_family([measurement])


def test_the_faster_path_is_named_with_engine_size_and_interval() -> None:
    found = verdict_on("p50", drawn({A: 1.0, B: 1.25}))
    assert found.verdict == "a"
    assert found.low < found.ratio < found.high
    assert (found.low, found.high) == pytest.approx((0.8, 0.8), abs=0.02)
    assert found.sentence == (
        f"p50: {LABELS[A]} is faster than {LABELS[B]} by {100 * (1 - found.ratio):.1f} % "
        f"(95 % CI {100 * (1 - found.high):.1f}..{100 * (1 - found.low):.1f})"
    )


def test_a_slower_first_path_loses_by_as_much() -> None:
    found = verdict_on("p50", drawn({A: 1.25, B: 1.0}))
    assert found.verdict == "b"
    assert found.sentence.startswith(
        f"p50: {LABELS[B]} is faster than {LABELS[A]} by {100 * (1 - 1 / found.ratio):.1f} %"
    )


def test_a_small_difference_is_too_close_to_call_and_says_what_would_be_found() -> None:
    found = verdict_on("p50", drawn({A: 1.0, B: 1.002}))
    assert found.verdict == "too close to call"
    assert found.low < 1 < found.high
    assert found.minimum_detectable_effect > 1
    detectable = f"{100 * (1 - 1 / found.minimum_detectable_effect):.1f} % is found in 80 % of such runs"
    assert found.sentence.startswith("p50: too close to call: ")
    assert found.sentence.endswith(detectable)


def test_a_verdict_is_the_corrected_p_values_not_the_single_intervals() -> None:
    found = [verdict_on("p50", drawn({A: 1.0, B: 1 + step / 1000})) for step in range(0, 30, 1)]
    assert [each.verdict != "too close to call" for each in found] == [each.p_holm <= 0.05 for each in found]
    assert any(each.p_value <= 0.05 < each.p_holm for each in found)


def test_what_slows_all_blocks_of_a_round_cancels() -> None:
    quiet = drawn({A: 1.0, B: 1.05})
    weather = np.linspace(1, 3, 20)
    stormy = {
        measurement: [each * factor for each, factor in zip(rounds, weather, strict=True)]
        for measurement, rounds in quiet.items()
    }
    calm, rough = verdict_on("p99", quiet), verdict_on("p99", stormy)
    assert (rough.ratio, rough.low, rough.high) == pytest.approx((calm.ratio, calm.low, calm.high))


def test_a_round_without_the_floor_of_samples_gives_no_p99_but_a_p50() -> None:
    latencies = drawn({A: 1.0, B: 1.25})
    latencies[A][3] = latencies[A][3][:661]
    assert (verdict_on("p50", latencies).rounds, verdict_on("p99", latencies).rounds) == (20, 19)


def test_fewer_than_eleven_rounds_of_both_are_refused_with_the_reason() -> None:
    assert verdict_on("p50", drawn({A: 1.0, B: 1.25}, rounds=11)).verdict == "a"
    found = verdict_on("p50", drawn({A: 1.0, B: 1.25}, rounds=10))
    assert (found.verdict, found.ratio, found.p_holm, found.minimum_detectable_effect) == (None, None, None, None)
    assert found.sentence.endswith("10 rounds have 11 correct responses from both, 11 must")


def test_a_refused_hypothesis_still_counts_in_the_correction() -> None:
    whole = drawn({A: 1.0, B: 1.004})
    short = {measurement: [each[:500] for each in rounds] for measurement, rounds in whole.items()}
    found = verdict_on("p50", short)
    assert verdict_on("p99", short).verdict is None
    assert found.p_holm == pytest.approx(2 * found.p_value)


def test_the_json_form_has_the_bootstrap_as_one_object() -> None:
    found = verdict_on("p50", drawn({A: 1.0, B: 1.25}))
    form = found.to_dict()
    names = (
        "metric a b family rounds ratio low high p_value p_holm bootstrap minimum_detectable_effect verdict sentence"
    )
    assert set(form) == set(names.split())
    assert form["bootstrap"] == pytest.approx({"low": found.bootstrap_low, "high": found.bootstrap_high}, rel=1e-5)


def test_blocks_that_are_not_aligned_are_refused() -> None:
    with pytest.raises(ValueError, match=f"not aligned by round: {A} 20, {B} 19"):
        judge({A: drawn({A: 1.0})[A], B: drawn({B: 1.0}, rounds=19)[B]}, LABELS, seed=1)


def test_a_block_without_a_label_is_named() -> None:
    with pytest.raises(ValueError, match=f"{B} has no label"):
        judge(drawn({A: 1.0, B: 1.0}), {A: LABELS[A]}, seed=1)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_latency_that_is_none_is_refused(value: float) -> None:
    latencies = drawn({A: 1.0, B: 1.0})
    latencies[B][7][0] = value
    with pytest.raises(ValueError, match=f"{B} has an invalid latency"):
        judge(latencies, LABELS, seed=1)


def test_the_no_op_server_needs_no_label() -> None:
    assert len(judge(drawn({A: 1.0, B: 1.0, "null@null.direct": 0.1}), LABELS, seed=1)) == 2


def test_one_path_alone_has_no_verdict() -> None:
    assert judge(drawn({A: 1.0}), LABELS, seed=1) == ()
