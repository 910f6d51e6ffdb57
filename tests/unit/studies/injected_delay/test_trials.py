"""One run's pairs are judged, each by itself."""

import json
import math

import numpy as np
import pytest

from report.schema import ReportError
from report.sequential import Design
from report.spending import Look
from servepath.results.names import KNOWN, TIME_UP
from studies.injected_delay.counts import counts_of
from studies.injected_delay.text import line
from studies.injected_delay.trials import judged, on, warned
from tests.unit.studies.injected_delay.conftest import WriteSides

pytestmark = pytest.mark.slow


def test_a_run_in_which_only_the_planted_server_is_slower_is_judged_correctly(write_sides: WriteSides) -> None:
    trial = judged(write_sides("1", {"a": 1.0, "b": 1.0, "injected": 1.05}))
    assert (trial.reasons, trial.false_alarm, trial.found, trial.wrong_way) == ((), False, True, False)
    assert trial.found_at_once
    assert [len(trial.alike), len(trial.injected)] == [2, 2]
    assert 1 / on("p50", trial.injected).ratio == pytest.approx(1.05, abs=0.01)
    assert set(trial.spread) == {"p50", "p99"}
    # A measurement's p50 of 670 lognormal(0, 0.15) scatters by 1.25 x 0.15 / sqrt(670), a ratio by sqrt(2) times that.
    assert trial.spread["p50"] == pytest.approx(1.25 * 0.15 / math.sqrt(670) * math.sqrt(2), rel=0.5)
    assert "too close to call" in line(trial)
    assert line(trial).endswith(": found")


def test_a_difference_between_servers_that_should_be_alike_is_a_false_alarm(write_sides: WriteSides) -> None:
    trial = judged(write_sides("1", {"a": 1.0, "b": 1.05, "injected": 1.0}))
    assert (trial.false_alarm, trial.found) == (True, False)
    assert "FALSE ALARM" in line(trial)
    assert line(trial).endswith(": not found")


def test_a_delayed_server_that_is_called_faster_is_no_find(write_sides: WriteSides) -> None:
    trial = judged(write_sides("1", {"a": 1.05, "b": 1.05, "injected": 1.0}))
    assert (trial.found, trial.wrong_way, trial.found_at_once) == (False, True, False)
    assert line(trial).endswith(": WRONG WAY")


def test_an_invalid_run_gives_its_reason_and_no_verdict(write_sides: WriteSides) -> None:
    trial = judged(write_sides("1", {"a": 1.0, "b": 1.0, "injected": 1.05}, late_us=50_000))
    assert "the wall clock left the measuring clock" in trial.reasons[0]
    assert (trial.alike, trial.injected) == ((), ())
    assert line(trial).startswith("INVALID, it does not count: the wall clock")


def test_a_run_that_went_on_until_it_knew_is_judged_by_its_rule(write_sides: WriteSides) -> None:
    looks = [{"rounds": 12, "share": 0.6, "needed_minutes": 40.0}, {"rounds": 20, "share": 1.0, "needed_minutes": 30.0}]
    rule = {"difference": 0.05, "minutes": 15, "split": 1, "looks": looks, "ended": "time"}
    folder = write_sides("1", {"a": 1.0, "b": 1.0, "injected": 1.05})
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"sequential": rule}))
    trial = judged(folder)
    assert (trial.reasons, trial.false_alarm, trial.found) == ((), False, True)
    assert (trial.minutes, trial.warned) == (15.0, False)  # its forecast came late
    assert line(trial).endswith(": found in 15.0 min")
    shares = {share.title: share for share in counts_of([trial]).shares()}
    (warned,) = (share for title, share in shares.items() if "the machine is too noisy" in title)
    assert (warned.count, warned.claim, warned.contradicted) == (1, "at least 90 %", False)
    assert shares["a against b: a winner named on p50 or p99"].claim == "at most 2.5 %"


@pytest.mark.parametrize(
    ("share", "ended", "counts"), [(0.4, TIME_UP, True), (0.6, TIME_UP, False), (0.4, KNOWN, False)]
)
def test_a_forecast_is_a_warning_in_the_first_half_of_a_time_that_did_not_suffice(
    share: float, ended: str, *, counts: bool
) -> None:
    # The ratio goes up and down by a third, and is 1 in the mean: 5 % would take some hours.
    up_and_down = [math.exp(0.3 if number % 4 < 2 else -0.3) for number in range(24)]
    one, other = ([np.full(700, 1000.0 * by) for by in factors] for factors in (up_and_down, [1.0] * 24))
    pair = {"simple_nn@onnx.direct~a": one, "simple_nn@onnx.direct~injected": other}
    assert warned(pair, Design(0.05, 15.0, 1, (Look(12, share), Look(24, 1.0)), ended)) is counts


def test_a_run_of_other_sides_is_refused(write_sides: WriteSides) -> None:
    with pytest.raises(ReportError, match="has the sides new, old; a, b, injected are judged"):
        judged(write_sides("1", {"old": 1.0, "new": 1.0}))
