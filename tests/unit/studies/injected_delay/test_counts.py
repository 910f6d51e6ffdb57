"""Trials are counted, and the counts held against the claims."""

import pytest

from report.verdicts import TOO_CLOSE, Verdict
from studies.injected_delay.counts import Counts, counts_of
from studies.injected_delay.runs import Calibration
from studies.injected_delay.text import render
from studies.injected_delay.trials import Trial

HOST = {"cpu": "synthetic", "cores": 2, "memory_bytes": 24 * 2**30, "os": "Debian"}
CALIBRATION = Calibration("simple_nn@onnx", 20, 500.0, 760.0, 38.0)


def verdict(metric: str, said: str, ratio: float = 1.0, p_value: float = 0.01) -> Verdict:
    names = {"metric": metric, "a": "m@s.direct~a", "b": "m@s.direct~b", "family": "side", "rounds": 20}
    return Verdict(**names, ratio=ratio, p_value=p_value, minimum_detectable_effect=1.02, verdict=said, sentence="")


def trial(alike: str = TOO_CLOSE, injected: str = "a", p_value: float = 0.001, ratio: float = 0.95) -> Trial:
    return Trial(
        "run",
        "2026-11-23T09:00:00+00:00",
        "c" * 40,
        (),
        (verdict("p50", TOO_CLOSE), verdict("p99", alike)),
        (verdict("p50", injected, ratio, p_value), verdict("p99", TOO_CLOSE)),
        {"p50": 0.01, "p99": 0.1},
    )


def counts(alarms: int, found: int) -> Counts:
    """Return 20 trials: so many false alarms, so many finds."""
    return counts_of([trial("a" if i < alarms else TOO_CLOSE, "a" if i < found else TOO_CLOSE) for i in range(20)])


@pytest.mark.parametrize(("alarms", "contradicted"), [(0, False), (3, False), (4, True), (20, True)])
def test_false_alarms_contradict_when_5_percent_is_below_their_exact_interval(alarms: int, contradicted: bool) -> None:  # noqa: FBT001
    assert counts(alarms, 20).contradicted is contradicted


@pytest.mark.parametrize(("found", "contradicted"), [(20, False), (17, False), (16, True), (0, True)])
def test_finds_contradict_when_95_percent_is_above_their_exact_interval(found: int, contradicted: bool) -> None:  # noqa: FBT001
    assert counts(0, found).contradicted is contradicted


def test_what_is_found_only_in_a_small_family_is_counted_apart() -> None:
    shares = counts_of([trial(p_value=0.05 / 32), trial(p_value=0.05 / 31), trial(injected="b", p_value=0.0)]).shares()
    assert [share.count for share in shares] == [0, 2, 1, 1]
    assert shares[-1].title.endswith("one of 32 hypotheses")


def test_the_ratio_over_all_trials_has_an_interval_when_there_are_three() -> None:
    _, two = counts_of([trial(ratio=1 / 1.05)] * 2).ratios()
    _, three = counts_of([trial(ratio=1 / slower) for slower in (1.04, 1.05, 1.06)]).ratios()
    assert (two.mean, two.low, two.high) == (pytest.approx(1.05), None, None)
    # Student's t of 2 degrees of freedom, 4.303, and the logarithms' standard error, 0.0055.
    assert (three.low, three.mean, three.high) == pytest.approx((1.0254, 1.05, 1.0751), abs=1e-4)


def test_invalid_runs_are_counted_apart_with_their_reason() -> None:
    found = counts_of([trial(), Trial("bad", "", "", ("the clock was set",))])
    text = render(found, CALIBRATION, HOST, "")
    assert found.shares()[0].total == 1
    assert "INVALID runs, not counted and replaced by further ones: 1 (bad: the clock was set)." in text


def test_the_text_says_counts_intervals_conditions_and_what_is_contradicted() -> None:
    text = render(counts(4, 20), CALIBRATION, HOST, "| a simulation |")
    assert "| 4 of 20 | 20 % (5.7..43.7) | at most 5 % | **yes** |" in text
    assert "| 20 of 20 | 100 % (83.2..100.0) | at least 95 % | no |" in text
    assert "2026-11-23, 2 cores (synthetic), 24 GiB, Debian; commit ccccccc." in text
    assert "Injected: 38 us a call of the engine, where response times have p50 760 us." in " ".join(text.split())
    assert "| p99 | 2.0 % | 10.0 % |" in text
    assert "| a simulation |" in text
