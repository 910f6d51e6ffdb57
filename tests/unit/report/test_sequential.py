"""What a run that goes on until it knows may say, at a look and in its report."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report import gate, schema
from report.candidates import candidates
from report.documents import run
from report.documents.rule import rule
from report.documents.verdicts import headlines
from report.intervals import Array
from report.look import Unfinished, told
from report.rows import write_json
from report.schema import ReportError
from report.sequential import Design, design_of, judge_run, minutes_needed, standings, together
from report.spending import Look
from report.summary import build, to_dict
from report.verdicts import Verdict, judge
from report.writers import markdown
from tests.synthetic_run import write_run

A, B = "simple_nn@onnx.direct~a", "simple_nn@onnx.direct~b"
LABELS = {A: "side a", B: "side b"}
LOOKS = (Look(33, 0.11), Look(45, 0.15))
FACTS = {
    "seed": 1,
    "sequential": {
        "difference": 0.05,
        "minutes": 15,
        "split": 3,
        "ended": "known",
        "looks": [{"rounds": rounds, "share": share, "needed_minutes": 20.0} for rounds, share in LOOKS],
    },
}


def drawn(factor: float, noise: float, rounds: int = 45) -> dict[str, list[Array]]:
    rng = np.random.default_rng(1)
    return {
        name: [slower * rng.lognormal(7 + noise * rng.standard_normal(), 0.2, 225) for _ in range(rounds)]
        for name, slower in ((A, 1.0), (B, factor))
    }


def p50(latencies: dict[str, list[Array]], facts: dict[str, Any] = FACTS) -> Verdict:
    return judge_run(facts, latencies, LABELS)[0]


def test_a_planted_difference_gets_its_winner() -> None:
    found = p50(drawn(1.05, noise=0.02))
    assert (found.verdict, found.more_minutes) == ("a", None)
    assert found.low < 1 / 1.05 < found.high < 1
    assert found.sentence.startswith("p50: side a is faster than side b by ")


def test_sides_that_are_alike_are_known_not_to_differ_by_the_wanted_difference() -> None:
    found = p50(drawn(1.0, noise=0.02))
    assert found.verdict == "too close to call"
    assert 1 / 1.05 < found.low < 1 < found.high < 1.05
    assert found.sentence.startswith("p50: no difference of 5 % or more: side a to side b is ")


def test_what_the_time_did_not_suffice_for_is_not_known_and_how_many_more_minutes_would_tell_is_said() -> None:
    latencies = drawn(1.0, noise=0.3)
    found = p50(latencies)
    assert found.verdict == "not known"
    in_all = minutes_needed(standings(latencies, design_of(FACTS)), design_of(FACTS))
    assert found.more_minutes == pytest.approx(in_all - 0.15 * 15)
    assert found.sentence.endswith(f"); about {math.ceil(found.more_minutes)} more minutes would tell")
    assert "p50: not known to 5 %: side a to side b is " in found.sentence


def test_less_than_a_minute_that_is_lacking_is_said_as_one() -> None:
    facts = FACTS | {"sequential": FACTS["sequential"] | {"minutes": 0.5}}
    assert p50(drawn(1.0, noise=0.1), facts).sentence.endswith("; about 1 more minute would tell")


def test_who_won_at_an_earlier_look_and_lost_since_is_no_winner() -> None:
    latencies = drawn(1.05, noise=0.02)
    latencies[A][33:] = [1.5 * times for times in latencies[A][33:]]
    found = p50(latencies)
    assert found.p_holm < 0.015
    assert found.ratio > 1
    assert found.verdict == "not known"


def test_a_p99_is_of_three_rounds_and_keeps_no_run_going() -> None:
    p99 = judge_run(FACTS, drawn(1.0, noise=0.02), LABELS)[1]
    assert (p99.metric, p99.rounds) == ("p99", 15)
    noisy = standings(drawn(1.0, noise=0.3), design_of(FACTS))
    assert [each.settled for each in noisy if each.hypothesis.metric == "p99"] == [True]


def test_rounds_are_taken_together_in_their_order_and_the_rest_is_left_out() -> None:
    found = together([np.array([number]) for number in range(7)], 3)
    assert [each.tolist() for each in found] == [[0, 1, 2], [3, 4, 5]]


def test_an_interval_is_wider_than_that_of_as_many_fixed_rounds() -> None:
    latencies = drawn(1.0, noise=0.02)
    fixed, found = judge(latencies, LABELS, seed=1)[0], p50(latencies)
    assert found.low < fixed.low < fixed.high < found.high
    assert found.ratio == pytest.approx(fixed.ratio)


def test_a_run_of_fixed_rounds_is_judged_as_ever() -> None:
    latencies = drawn(1.05, noise=0.02)
    assert judge_run({"seed": 1}, latencies, LABELS) == judge(latencies, LABELS, seed=1)


def test_too_few_rounds_have_no_verdict_and_nothing_tells_how_many_are_needed() -> None:
    design = Design(0.05, 15, 3, (Look(8, 1.0),), "time")
    facts = FACTS | {"sequential": FACTS["sequential"] | {"looks": [{"rounds": 8, "share": 1.0}], "ended": "time"}}
    latencies = drawn(1.0, noise=0.02, rounds=8)
    assert minutes_needed(standings(latencies, design), design) is None
    assert [each.verdict for each in judge_run(facts, latencies, LABELS)] == [None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of 33 short rounds of two sides."""
    found = write_run(
        tmp_path_factory.mktemp("until") / "run",
        rounds=33,
        requests=225,
        medians_us={"simple_nn@onnx": 700.0},
        sides={"a": 1.0, "b": 1.1},
    )
    facts = json.loads((found / "run.json").read_text())
    rule = FACTS["sequential"] | {"looks": FACTS["sequential"]["looks"][:1]}
    (found / "run.json").write_text(json.dumps(facts | {"sequential": rule}))
    return found


def test_a_look_says_what_its_report_will(folder: Path) -> None:
    found = Unfinished(folder).look()
    assert (found["known"], found["needed_minutes"]) == (True, 0)
    assert found["said"] == "look 1, 33 rounds, 1.6 min: 1 of 1 comparisons of p50 known to 5 %"
    assert build(folder).verdicts[0].verdict == "a"


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("wrong answers", "responses were incorrect, which ended it after 1.6 of 15 minutes, 33 rounds and 1 look."),
        ("failed requests", "requests failed, which ended it after 1.6 of 15 minutes"),
        ("", "the run was interrupted or failed, which ended it after 1.6 of 15 minutes"),
    ],
)
def test_the_report_of_a_run_that_is_not_valid_says_why_it_ended(folder: Path, ended: str, said: str) -> None:
    summary = build(folder)
    facts = {**summary.facts, "sequential": summary.facts["sequential"] | {"ended": ended}}
    assert not [error.message for error in schema.validator("run").iter_errors(facts)]
    text = markdown.render(run.document(replace(summary, facts=facts, reasons=("m@onnx failed",), verdicts=())))
    assert f"Rounds until 5 % is known: {said}" in text


NOISY = "After 33 rounds the machine was found too noisy for 5 % within 15 minutes: 20 would be needed."


def test_a_run_whose_time_ended_says_that_the_machine_was_noisy_before_its_last_look() -> None:
    ended = FACTS["sequential"] | {"ended": "time"}
    assert rule({"sequential": ended})[-1] == NOISY
    assert NOISY not in rule({"sequential": ended | {"looks": ended["looks"][:1]}})
    late = [look | {"share": 0.9} for look in ended["looks"]]
    assert NOISY not in rule({"sequential": ended | {"looks": late}})
    assert NOISY not in rule(FACTS)


@pytest.mark.parametrize(("share", "noisy"), [(0.4, True), (0.9, False)])
def test_a_look_finds_the_machine_too_noisy_in_the_first_half_of_the_time_alone(share: float, *, noisy: bool) -> None:
    # The ratio goes up and down by a third, and is 1 in the mean: 5 % would take some hours.
    up_and_down = [math.exp(0.3 if number % 4 < 2 else -0.3) for number in range(24)]
    one, other = ([np.full(700, 1000.0 * by) for by in factors] for factors in (up_and_down, [1.0] * 24))
    design = Design(0.05, 15, 1, (Look(24, share),))
    found = told(standings({A: one, B: other}, design), design)["said"]
    assert ("this machine is too noisy to tell within 15 minutes" in found) is noisy
    assert found.endswith(" minutes would be needed" if noisy else " minutes in all would tell")


def test_a_look_after_too_few_rounds_says_that() -> None:
    design = Design(0.05, 15, 3, (Look(5, 1.0),), "time")
    found = told(standings(drawn(1.0, noise=0.02, rounds=5), design), design)
    assert found["said"].endswith("0 of 1 comparisons of p50 known to 5 %; too few rounds to tell")


def test_the_p99_of_a_run_that_went_on_until_it_knew_has_its_interval(folder: Path) -> None:
    found = candidates(build(folder).evidence, 20.0)
    assert [each.loaded_p99_ms is not None and each.loaded_p99_ms.bounded for each in found] == [True, True]


def test_the_gate_refuses_a_run_that_ended_by_what_it_saw(folder: Path) -> None:
    summary = build(folder)
    arguments = {**summary.facts["arguments"], "side": ["a=a.env", "b=b.env"]}
    with pytest.raises(ReportError, match="the gate's bounds are for rounds that were fixed before"):
        gate.from_sides(replace(summary, facts={**summary.facts, "arguments": arguments}))


def test_paths_that_the_time_did_not_tell_apart_are_not_too_close_to_call(tmp_path: Path) -> None:
    found = write_run(
        tmp_path / "run", rounds=33, requests=225, medians_us={"simple_nn@onnx": 700.0, "keras_dense@onnx": 701.0}
    )
    facts = json.loads((found / "run.json").read_text())
    ended = FACTS["sequential"] | {"difference": 0.0001, "ended": "time", "looks": FACTS["sequential"]["looks"][:1]}
    (found / "run.json").write_text(json.dumps(facts | {"sequential": ended}))
    (first, *_) = headlines(build(found))
    assert first.endswith("; which of them is fastest was not known when the time ended")


def test_summary_and_report_say_the_rule(folder: Path) -> None:
    summary = build(folder)
    found = json.loads(write_json(to_dict(summary)))
    assert [error.message for error in schema.validator("summary").iter_errors(found)] == []
    assert found["sequential"]["looks"] == [{"rounds": 33, "share": 0.11, "needed_minutes": 20.0}]
    text = markdown.render(run.document(summary))
    assert "all comparisons of p50 were known to 5 % after 1.6 of 15 minutes, 33 rounds and 1 look." in text
