"""Which path is named for a rate at an objective: of the stored run, with capacities and costs as a test needs them."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from report import intervals, recommendation_json, schema
from report.__main__ import main
from report.candidate import Candidate, Capacity, Cost, Settings
from report.candidates import candidates
from report.document import Detail, Document, Section
from report.documents.recommendation import recommendation as blocks_of
from report.estimates import Estimate
from report.recommendation import (
    Basis,
    Price,
    Question,
    Recommendation,
    Standing,
    answer,
    question_of,
    recommend,
    standing,
)
from report.rows import write_json
from report.schema import ReportError
from report.summary import Summary
from tests.unit.report.plain import plain

CHEAP, STRONG = "keras_dense@tfserving", "simple_nn@onnx"
# Capacity with its interval, and the CPU of each measurement in seconds per 1,000 requests.
LIMITS = {CHEAP: (900, 850, 950), STRONG: (2000, 1900, 2100)}
COSTS = {CHEAP: (0.20, 0.21, 0.22), STRONG: (0.40, 0.41, 0.42)}
SLO_P99_MS = 20.0


def entry(path: str, bounds: tuple[float | None, ...], **changed: Any) -> dict[str, Any]:
    model, stack = path.split("@")
    names = dict(zip(("rate_rps", "low_rps", "high_rps"), bounds, strict=True))
    top = bounds[0] or 500
    steps = [{"rate_rps": top * share, "p99_ms": 10 * share**2, "met": share <= 1} for share in (0.5, 1.0, 3.0)]
    return {"model": model, "stack": stack, "via": "direct", "cores": 2, "steps": steps} | names | changed


def card(path: str, values: Sequence[float], **changed: Any) -> dict[str, Any]:
    model, stack = path.split("@")
    figures = [
        figure("server CPU, direct", sum(values) / len(values), "s per 1,000 requests") | {"values": list(values)},
        figure("loaded memory", 100.0, "MiB"),
    ]
    return {"model": model, "stack": stack, "figures": figures} | changed


def figure(name: str, value: float | None, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "note": ""}


def measured(
    summary: Summary,
    limits: Mapping[str, tuple[float | None, ...]] = LIMITS,
    costs: Mapping[str, Sequence[float]] = COSTS,
    **about: Any,
) -> Summary:
    """Add capacities and costs to the stored run."""
    paths = [entry(path, bounds) for path, bounds in limits.items()]
    return added(summary, paths, [card(path, values) for path, values in costs.items()], **about)


def added(
    summary: Summary, paths: Sequence[Mapping[str, Any]], cards: Sequence[Mapping[str, Any]] | None, **about: Any
) -> Summary:
    capacity = {"slo_p99_ms": SLO_P99_MS, "paths": list(paths)}
    scorecard = None if cards is None else {"scorecard": list(cards), **about}
    schema.validator("capacity").validate({"capacity": capacity})
    schema.validator("scorecard").validate(scorecard or {"scorecard": []})
    return replace(summary, capacity=capacity, scorecard=scorecard)


def at(summary: Summary, rate_rps: float) -> Summary:
    """Return the run, asked about another rate than its own."""
    return replace(summary, question=replace(question_of(summary.evidence), rate_rps=rate_rps))


def asked(summary: Summary, rate_rps: float, slo_p99_ms: float = SLO_P99_MS, **more: Any) -> Recommendation:
    question = Question(rate_rps=rate_rps, slo_p99_ms=slo_p99_ms, vias=("direct",), **more)
    return recommend(summary.evidence, question)


def named(found: Recommendation) -> str | None:
    """Return the path that the only answer names."""
    (answer,) = found.answers
    return answer.choice and answer.choice.chosen.path


def said(summary: Summary, detail: Detail = Detail.FULL) -> str:
    blocks = tuple(blocks_of(summary.recommendation, {}))
    return plain(Document("", (), (Section("recommendation", "", blocks),)), detail)


@pytest.mark.parametrize(
    ("rate_rps", "path"),
    [(500, CHEAP), (900, CHEAP), (901, STRONG), (1500, STRONG), (2000, STRONG), (2001, None)],
)
def test_the_cheapest_path_that_holds_the_rate_is_named_and_changes_at_the_capacities(
    summary: Summary, rate_rps: float, path: str | None
) -> None:
    assert named(asked(measured(summary), rate_rps)) == path


def test_at_which_rate_another_path_is_the_answer_is_said_whatever_rate_was_asked(summary: Summary) -> None:
    for rate_rps in (500, 1500, 5000):
        (answer,) = asked(measured(summary), rate_rps).answers
        assert [(step.bound, step.candidate.path) for step in answer.by_rate] == [(900, CHEAP), (2000, STRONG)]


def test_at_which_objective_another_path_is_the_answer_is_read_from_the_trials(summary: Summary) -> None:
    (answer,) = asked(measured(summary), 1500).answers
    # 1,500 req/s is three quarters of one capacity, and beyond the other, where a trial had 30 ms.
    assert [step.candidate.path for step in answer.by_slo] == [STRONG, CHEAP]
    between_trials, beyond = (step.bound for step in answer.by_slo)
    assert 5 < between_trials < 10 < SLO_P99_MS < beyond < 30


def test_the_runner_up_loses_by_a_ratio_of_costs_with_its_interval(summary: Summary) -> None:
    (answer,) = asked(measured(summary), 500).answers
    assert answer.choice is not None
    assert (answer.choice.basis, answer.runner_up and answer.runner_up.path) == (Basis.COST, STRONG)
    assert answer.ratio is not None
    assert answer.ratio.value == pytest.approx(1.954, abs=0.001)
    assert answer.ratio.low is not None
    assert 1 < answer.ratio.low < answer.ratio.value


def test_where_no_other_holds_it_the_one_that_comes_nearest_is_the_runner_up(summary: Summary) -> None:
    (answer,) = asked(measured(summary), 1500).answers
    assert answer.choice is not None
    assert (answer.choice.basis, answer.runner_up and answer.runner_up.path) == (Basis.ONLY, CHEAP)


def test_costs_that_are_not_told_apart_are_a_tie_and_the_higher_capacity_is_taken(summary: Summary) -> None:
    close = measured(summary, costs={CHEAP: (0.20, 0.25, 0.30), STRONG: (0.22, 0.27, 0.32)})
    (answer,) = asked(close, 500).answers
    assert answer.choice is not None
    assert (answer.choice.chosen.path, answer.choice.basis) == (STRONG, Basis.TIE)
    assert [each.path for each in answer.choice.tie] == [CHEAP]
    assert f"Too close to call in cost: {STRONG}, {CHEAP}." in said(close, Detail.BRIEF)
    what = f"which of {STRONG} direct, {CHEAP} direct costs less: more measurements may tell"
    assert (what, "make scorecard ROUNDS=12") in asked(close, 500).missing


def test_a_rate_inside_the_interval_of_a_capacity_is_not_sure_and_a_surer_path_is_named(summary: Summary) -> None:
    (answer,) = asked(measured(summary), 875).answers
    assert answer.choice is not None
    assert (answer.choice.chosen.path, answer.surer and answer.surer.path) == (CHEAP, STRONG)
    text = said(at(measured(summary), 875.0))
    assert "875 req/s is inside the 99 % interval of the capacity of keras_dense@tfserving (850..950)" in text


def test_where_none_holds_the_rate_the_highest_capacity_says_how_many_machines_it_takes(summary: Summary) -> None:
    text = said(at(measured(summary), 5000.0), Detail.BRIEF)
    begin = "For 5,000 req/s at p99 below 20 ms, reached directly: no path holds it."
    assert f"{begin} The highest capacity is 2,000 req/s, of {STRONG} [onnxruntime" in text
    assert "3 such machines" in text


def test_a_path_without_any_rate_at_the_objective_is_none_to_choose(summary: Summary) -> None:
    found = asked(measured(summary, limits={CHEAP: (None, None, 125), STRONG: LIMITS[STRONG]}), 500)
    assert named(found) == STRONG
    standings = {each.path: standing(each, 500) for each in found.answers[0].candidates}
    assert standings == {CHEAP: Standing.MISSES, STRONG: Standing.MEETS}


def of_path(found: Recommendation, path: str) -> Candidate:
    (answer,) = found.answers
    return next(each for each in answer.candidates if each.path == path)


def test_below_the_lowest_rate_that_was_tried_nobody_knows_whether_a_path_holds_it(summary: Summary) -> None:
    untried = measured(summary, limits={CHEAP: (None, None, 125)})
    cheap = of_path(asked(untried, 20), CHEAP)
    assert [standing(cheap, rate_rps) for rate_rps in (20, 200)] == [Standing.UNSURE, Standing.MISSES]
    assert "no path is known to hold it. No path is known to hold any rate." in said(at(untried, 20.0), Detail.BRIEF)


def test_of_an_earlier_file_the_lowest_rate_that_was_tried_is_that_of_its_steps(summary: Summary) -> None:
    cheap = of_path(asked(measured(summary, limits={CHEAP: (None, None, None)}), 200), CHEAP)
    assert [standing(cheap, rate_rps) for rate_rps in (200, 300)] == [Standing.UNSURE, Standing.MISSES]


def test_a_capacity_that_the_trials_do_not_bound_from_below_makes_no_path_sure(summary: Summary) -> None:
    found = asked(measured(summary, limits={CHEAP: (900, None, 1400), STRONG: LIMITS[STRONG]}), 100)
    cheap = of_path(found, CHEAP)
    standings = [standing(cheap, rate_rps) for rate_rps in (100, 900, 1400, 1401)]
    assert standings == [*[Standing.UNSURE] * 3, Standing.MISSES]
    assert (named(found), found.answers[0].surer and found.answers[0].surer.path) == (CHEAP, STRONG)


def test_a_path_that_answered_wrongly_under_the_load_of_the_scorecard_holds_no_rate(summary: Summary) -> None:
    cards = [card(CHEAP, COSTS[CHEAP], wrong_answers=3), card(STRONG, COSTS[STRONG], wrong_answers=0)]
    wrong = added(summary, [entry(*each) for each in LIMITS.items()], cards)
    found = asked(wrong, 500)
    assert (named(found), standing(of_path(found, CHEAP), 500)) == (STRONG, Standing.MISSES)
    (answer,) = found.answers
    assert {step.candidate.path for step in (*answer.by_rate, *answer.by_slo)} == {STRONG}
    text = said(wrong, Detail.BRIEF)
    assert f"Incorrect responses while capacities or costs were measured, so not to be chosen: {CHEAP}." in text


def test_wrong_answers_count_also_where_a_card_of_another_gateway_has_none(summary: Summary) -> None:
    other = card(CHEAP, COSTS[CHEAP], gateway_settings="tuned 1 for rate; gateway: max_in_flight 9")
    cards = [card(CHEAP, COSTS[CHEAP], wrong_answers=3), other, card(STRONG, COSTS[STRONG])]
    found = asked(added(summary, [entry(*each) for each in LIMITS.items()], cards), 500)
    assert (named(found), standing(of_path(found, CHEAP), 500)) == (STRONG, Standing.MISSES)


def test_what_tuned_settings_lack_is_measured_with_servers_that_are_started_with_them(summary: Summary) -> None:
    tuned = with_settings(summary, "tuned 1 for rate; onnx: threads 2")
    found = asked(measured(tuned), 500)
    names = f"{CHEAP} (tuned) direct, {STRONG} (tuned) direct"
    command = f"make down capacity SLO_P99_MS=20 PATHS={CHEAP},{STRONG} TUNED=1"
    assert (f"the capacity of {names}", command) in found.missing
    assert (f"what a request costs on {names}", "make down scorecard TUNED=1") in found.missing


def test_what_the_defaults_lack_is_measured_with_other_servers_than_those_of_tuned_settings(summary: Summary) -> None:
    tuned = entry(CHEAP, LIMITS[CHEAP], settings="tuned 1 for rate; onnx: threads 2")
    found = asked(added(summary, [tuned], []), 500)
    names = f"{CHEAP} direct, {STRONG} direct"
    assert (f"the capacity of {names}", f"make down capacity SLO_P99_MS=20 PATHS={CHEAP},{STRONG}") in found.missing
    assert (f"what a request costs on {names}", "make down scorecard") in found.missing


def test_a_runner_up_that_does_not_hold_the_rate_has_no_price_at_which_it_would_do(summary: Summary) -> None:
    dear = measured(summary, costs={CHEAP: COSTS[STRONG], STRONG: COSTS[CHEAP]})
    shares = []
    for rate_rps in (500.0, 1500.0):
        (answer,) = recommendation_json.to_dict(asked(dear, rate_rps))["answers"]
        assert answer["runner_up"]["stack"] == "tfserving"
        shares.append(answer["would_change"]["by_price"] and answer["would_change"]["by_price"]["share"])
    assert shares == [pytest.approx(0.512, abs=0.001), None]
    assert ["By price" in said(at(dear, rate_rps)) for rate_rps in (500.0, 1500.0)] == [True, False]


def test_a_way_that_the_run_did_not_load_is_said_with_the_command_that_does(summary: Summary) -> None:
    direct = measured(replace(summary, rows=tuple(row for row in summary.rows if row.via == "direct")))
    question = Question(rate_rps=500, slo_p99_ms=SLO_P99_MS, vias=("gateway",))
    found = recommend(direct.evidence, question)
    assert (found.answers, found.reasons) == ((), ("this run has no path via gateway; run: make loadtest VIA=both",))


@pytest.mark.parametrize(
    ("days", "names"),
    [
        (("1", "2"), ("tuned 1", "tuned 2")),
        (("1", "1"), ("tuned 1 for rate; onnx: threads 2", "tuned 1 for rate; onnx: threads 4")),
    ],
)
def test_two_tunings_of_a_path_have_names_of_their_own(
    summary: Summary, days: tuple[str, str], names: tuple[str, str]
) -> None:
    settings = [f"tuned {day} for rate; onnx: threads {threads}" for day, threads in zip(days, (2, 4), strict=True)]
    both = added(summary, [entry(STRONG, LIMITS[STRONG], settings=each) for each in settings], [])
    found = [each.name for each in candidates(both.evidence, SLO_P99_MS) if each.settings.origin]
    assert found == [f"{STRONG} ({name})" for name in names]


def test_a_cheaper_path_whose_search_was_ended_by_the_generator_is_said_to_be_open(summary: Summary) -> None:
    paths = [entry(CHEAP, (400, 380, None), limit="generator"), entry(STRONG, LIMITS[STRONG])]
    ended = added(summary, paths, [card(*each) for each in COSTS.items()])
    text = said(ended)
    assert named(asked(ended, 500)) == STRONG
    assert f"Cheaper, and not known or not sure to hold 500 req/s: {CHEAP}." in text
    assert f"How much more than their capacities can be done by {CHEAP} direct: the search did not get there." in text
    assert f"above that, not known: how far {CHEAP} goes was not seen." in text


def test_without_a_capacity_the_report_says_how_to_measure_one(summary: Summary) -> None:
    lines = said(summary, Detail.BRIEF).splitlines()
    begin = lines.index("For 500 req/s at p99 below 5 ms: not known yet.")
    assert lines[begin + 1 : begin + 3] == [
        "Not measured: the capacity of each path: make capacity SLO_P99_MS=5",
        "Not measured: what a request costs: make scorecard PRICE_PER_HOUR=0.10 CURRENCY=EUR",
    ]


def test_without_costs_the_highest_capacity_is_named_and_the_command_for_costs(summary: Summary) -> None:
    uncosted = added(summary, [entry(*each) for each in LIMITS.items()], None)
    found = asked(uncosted, 500)
    assert (named(found), found.answers[0].choice and found.answers[0].choice.basis) == (STRONG, Basis.CAPACITY)
    assert "By capacity alone, as no cost was measured." in said(uncosted, Detail.BRIEF)
    assert "make scorecard PRICE_PER_HOUR=0.10 CURRENCY=EUR" in [each.command for each in found.missing]


def test_a_path_that_holds_the_rate_and_has_no_known_cost_is_not_passed_over_for_a_cheap_one(summary: Summary) -> None:
    half = measured(summary, costs={CHEAP: COSTS[CHEAP]})
    found = asked(half, 500)
    assert (named(found), found.answers[0].choice and found.answers[0].choice.basis) == (STRONG, Basis.CAPACITY)
    assert f"By capacity alone, as costs are unknown for {STRONG}." in said(half, Detail.BRIEF)


def test_among_equal_costs_a_cheapest_path_is_named_in_at_most_one_of_twenty_answers() -> None:
    random, count = np.random.default_rng(1), 400
    found = [
        answer("direct", tuple(candidate(name, costs) for name, costs in zip("abcdef", drawn, strict=True)), QUESTION)
        for drawn in random.normal(1.0, 0.05, (count, 6, 20)).tolist()
    ]
    apart = sum(each.choice is not None and len(each.choice.tie) < 5 for each in found)
    assert intervals.exact_interval(apart, count)[0] <= 0.05


QUESTION = Question(rate_rps=100, slo_p99_ms=SLO_P99_MS)


def candidate(model: str, costs: Sequence[float]) -> Candidate:
    return Candidate(
        model=model,
        stack="onnx",
        via="direct",
        settings=Settings(),
        engine="onnxruntime 1",
        precision="float32",
        version=1,
        sha256="",
        capacity=Capacity(200.0, None, None, open_ended=False),
        cores=1,
        trials=(),
        cost=Cost(statistics.fmean(costs), tuple(costs)),
        memory_mib=None,
        loaded_rps=100.0,
        loaded_p99_ms=None,
    )


@pytest.mark.parametrize(
    "overlapping",
    [
        {CHEAP: (1950, 1850, 2050), STRONG: LIMITS[STRONG]},
        {CHEAP: (950, 900, 990), STRONG: (1000, None, 1300)},
    ],
)
def test_capacities_that_overlap_are_a_tie_where_no_cost_was_measured(
    summary: Summary, overlapping: Mapping[str, tuple[float | None, ...]]
) -> None:
    (answer,) = asked(measured(summary, limits=overlapping, costs={}), 500).answers
    assert answer.choice is not None
    assert [each.path for each in answer.choice.tie] == [CHEAP]


@pytest.mark.parametrize(
    ("slo_p99_ms", "path", "what"),
    [
        (30.0, CHEAP, "capacities at 30 ms: those at 20 ms are lower bounds"),
        (10.0, None, "capacities at 10 ms: this run has those at 20 ms"),
    ],
)
def test_another_objective_than_the_measured_one_is_answered_as_far_as_that_reaches(
    summary: Summary, slo_p99_ms: float, path: str | None, what: str
) -> None:
    found = asked(measured(summary), 900, slo_p99_ms)
    assert [each.choice and each.choice.chosen.path for each in found.answers] == [path] * (path is not None)
    assert (what, f"make capacity SLO_P99_MS={slo_p99_ms:g}") in found.missing


def test_a_declared_price_is_that_of_the_share_of_the_machine_that_the_cpu_seconds_are(summary: Summary) -> None:
    priced = measured(summary, price={"per_hour": 0.36, "currency": "EUR"})
    assert question_of(priced.evidence).price == Price(0.36, "EUR")
    text = said(priced, Detail.USUAL)
    # 0.21 s per 1,000 requests are 210 s a million, on one of 2 cores at 0.18 EUR an hour.
    assert "0.0105 EUR per million requests; holds 1.8 times the rate." in text
    assert "On a machine that serves nothing else, a million requests cost 0.2 EUR on any path." in text
    assert f"By price: {STRONG} would cost as little on a machine that is 49% cheaper, 0.184 EUR an hour" in text


def test_nothing_is_recommended_from_a_run_that_is_not_valid(summary: Summary) -> None:
    lines = said(replace(measured(summary), reasons=("it was late",)), Detail.BRIEF).splitlines()
    assert "For 500 req/s at p99 below 20 ms: none, since a run that is not valid recommends nothing." in lines


def test_paths_that_do_not_compute_the_same_are_not_chosen_from_but_those_of_one_model_are(summary: Summary) -> None:
    paths = {
        key: {"weights_sha256": {"class": "must-equal", "value": key.partition("@")[0]}}
        for key in summary.facts["fairness"]["paths"]
    }
    facts = {**summary.facts, "fairness": {**summary.facts["fairness"], "paths": paths}}
    others = replace(measured(summary), facts=facts)
    assert asked(others, 500).answers == ()
    assert named(asked(others, 500, paths=(STRONG,))) == STRONG


REDUCED = f"{STRONG}:int8"
CROSSED = "Whether a reduced precision will do: the paths do not compute in the same one"


def with_reduced(summary: Summary) -> Summary:
    """Return the run with capacities and costs of a path, too, that it did not load: reduced, and the cheapest."""
    return measured(summary, {**LIMITS, REDUCED: (5000, 4900, 5100)}, {**COSTS, REDUCED: (0.04, 0.05, 0.06)})


def in_precision(summary: Summary, *said: str) -> Summary:
    """Return the run as if the servers of CHEAP and STRONG had said that they compute in these."""
    fairness, of = summary.facts["fairness"], dict(zip((CHEAP, STRONG), said, strict=True))
    paths = {
        name: keys | {"precision": {"class": "must-equal", "value": of[name.rpartition(".")[0]]}}
        for name, keys in fairness["paths"].items()
    }
    return replace(summary, facts={**summary.facts, "fairness": {**fairness, "paths": paths}})


def test_a_path_in_a_precision_that_the_run_did_not_load_is_left_out_and_that_is_said(summary: Summary) -> None:
    crossed = with_reduced(in_precision(summary, "fp32", "fp32"))
    found = asked(crossed, 500)
    assert named(found) == CHEAP
    assert REDUCED not in {each.path for each in found.answers[0].candidates}
    text = said(crossed)
    assert f"Other precisions, left out since the run did not load them: {REDUCED}; PATHS may name them." in text
    assert CROSSED not in text


def test_a_path_in_another_precision_that_is_named_is_chosen_from_and_that_is_said(summary: Summary) -> None:
    found = asked(with_reduced(in_precision(summary, "fp32", "fp32")), 500, paths=(CHEAP, REDUCED))
    assert named(found) == REDUCED
    assert found.unknowns[0] == f"{CROSSED} ({CHEAP} in fp32, {REDUCED} in int8)."


def test_precisions_that_the_run_loaded_beside_each_other_are_chosen_from_and_that_is_said(summary: Summary) -> None:
    found = asked(with_reduced(in_precision(summary, "fp32", "int8")), 500)
    assert named(found) == REDUCED
    assert found.unknowns[0] == f"{CROSSED} ({CHEAP} in fp32, {STRONG} in int8, {REDUCED} in int8)."


def test_a_path_in_full_precision_is_left_out_where_the_run_loaded_reduced_ones_alone(summary: Summary) -> None:
    rows = tuple(replace(row, stack=f"{row.stack}:int8") for row in summary.rows)
    found = asked(replace(with_reduced(summary), rows=rows), 500)
    assert named(found) == REDUCED
    assert found.unknowns[0].endswith(f": {CHEAP}, {STRONG}; PATHS may name them.")


def test_settings_of_one_path_are_told_apart_and_the_runner_up_is_another_path(summary: Summary) -> None:
    tuned = {"settings": "tuned 2026-11-29; onnx: threads 4"}
    paths = [*(entry(*each) for each in LIMITS.items()), entry(CHEAP, (1800, 1700, 1900), **tuned)]
    own = card(CHEAP, (0.10, 0.11, 0.12), **tuned, engine="mine", engine_version="2")
    both = at(added(summary, paths, [*(card(*each) for each in COSTS.items()), own]), 1500.0)
    (answer,) = asked(both, 1500).answers
    assert answer.choice is not None
    assert answer.choice.chosen.name == f"{CHEAP} (tuned)"
    assert (answer.runner_up and answer.runner_up.name) == STRONG
    assert f"{CHEAP} [mine 2]; settings: tuned (2026-11-29; onnx: threads 4);" in said(both)


def with_settings(summary: Summary, said: str) -> Summary:
    """Return the stored run as if its servers had been started with these settings."""
    fairness = summary.facts["fairness"]
    paths = {name: keys | {"settings": {"class": "subject", "value": said}} for name, keys in fairness["paths"].items()}
    return replace(summary, facts={**summary.facts, "fairness": {**fairness, "paths": paths}})


def test_what_was_tuned_again_is_not_mixed_with_what_was_tuned_before(summary: Summary) -> None:
    first, again = (f"tuned {day} for rate; onnx: threads {threads}" for day, threads in (("1", 2), ("2", 4)))
    searched = added(with_settings(summary, first), [entry(STRONG, LIMITS[STRONG], settings=again)], [])
    found = {
        each.settings.origin[0]: (each.loaded_p99_ms is not None, each.capacity is not None)
        for each in candidates(searched.evidence, SLO_P99_MS)
        if (each.path, each.via) == (STRONG, "direct")
    }
    assert found == {"1": (True, False), "2": (False, True)}


def test_the_side_default_has_the_defaults(summary: Summary) -> None:
    sides = tuple(replace(row, side="default") for row in summary.rows)
    found = candidates(replace(measured(summary), rows=sides).evidence, SLO_P99_MS)
    assert {each.settings for each in found} == {Settings()}
    assert all(each.cost is not None and each.loaded_p99_ms is not None for each in found if each.via == "direct")


def test_settings_that_nobody_knows_are_no_tuned_ones(summary: Summary) -> None:
    unknown = with_settings(summary, "unknown")
    assert "Other settings" not in said(measured(unknown, limits={}))
    assert f"Other settings of {CHEAP} direct, {STRONG} direct, which had its defaults" in said(measured(unknown))


def test_what_the_run_cannot_know_comes_from_its_facts(summary: Summary) -> None:
    run = measured(summary, rate_rps=400.0)
    text = said(run)
    assert f"The product itself: {CHEAP} was answered by embedded (tensorflow 2.21.0), a stand-in" in text
    assert "Other hardware: this was measured on synthetic: nobody measured this, 2 cores, 24 GiB." in text
    assert "CPU per request at 500 req/s: it was measured at 400 req/s." in text
    assert "Other settings: every path had its defaults." in text
    closed = "Response times at a rate: the run was a closed loop, whose callers wait for their replies."
    assert closed not in text
    assert closed in said(replace(run, facts={**run.facts, "load_model": "closed loop"}))


def test_a_scorecard_without_single_measurements_does_not_say_how_sure_its_costs_are(summary: Summary) -> None:
    cards = [card(*each) for each in COSTS.items()]
    for each in cards:
        del each["figures"][0]["values"]
    found = asked(added(summary, [entry(*each) for each in LIMITS.items()], cards), 500)
    assert (named(found), found.answers[0].ratio) == (CHEAP, Estimate(pytest.approx(0.41 / 0.21)))
    assert ("how sure the costs are: this scorecard is of an earlier release", "make scorecard") in found.missing


def add(stored: Any) -> None:
    """Write what other commands would add to a copy of the run."""
    stored.write("capacity", {"slo_p99_ms": SLO_P99_MS, "paths": [entry(*each) for each in LIMITS.items()]})
    stored.write("scorecard", [card(*each) for each in COSTS.items()])


def test_the_command_answers_another_question_and_writes_its_answer_by_the_schema(
    stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    add(stored)
    words = ["recommend", str(stored.folder), "--rate", "1500", "--price-per-hour", "0.36", "--via", "direct"]
    assert main(words) == 0
    begin = f"For 1,500 req/s at p99 below 20 ms, reached directly: {STRONG} [onnxruntime"
    assert begin in capsys.readouterr().out
    content = json.loads((stored.folder / "recommendation.json").read_text())
    schema.validator("recommendation").validate(content)
    (answer,) = content["answers"]
    assert (answer["recommended"]["stack"], answer["recommended"]["headroom"]) == ("onnx", 1.33333)
    assert json.loads((stored.folder / "summary.json").read_text())["recommendation"] == content
    assert begin in (stored.folder / "report.html").read_text()
    assert main([str(stored.folder)]) == 0
    assert begin not in (stored.folder / "report.html").read_text()


@pytest.mark.parametrize(("words", "code"), [(["--rate", "9000"], 3), (["--paths", "a@b"], 1)])
def test_the_command_ends_with_why_nothing_is_recommended(
    stored: Any, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    add(stored)
    assert main(["recommend", str(stored.folder), *words]) == code
    printed = capsys.readouterr()
    assert ("no path holds it" in printed.out, "a@b is not in this run; there are" in printed.err) == (
        code == 3,
        code == 1,
    )


@pytest.mark.parametrize("words", [["--rate", "0"], ["--slo-p99-ms", "x"], ["--currency", "EUR"], ["--via", "air"]])
def test_a_bad_argument_is_one_line(stored: Any, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["recommend", str(stored.folder), *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_capacity_of_a_model_that_the_run_did_not_load_is_no_answer(summary: Summary) -> None:
    limits = {**LIMITS, "another@onnx": (9000.0, 8000.0, 9500.0)}
    (found,) = asked(measured(summary, limits), 100.0).answers
    assert {each.model for each in found.candidates} == {"keras_dense", "simple_nn"}


def test_whatever_was_measured_the_recommendation_obeys_its_schema(summary: Summary) -> None:
    priced = measured(summary, price={"per_hour": 0.36, "currency": "EUR"})
    closed = replace(priced, facts={**summary.facts, "load_model": "closed loop"})
    nothing = added(summary, [entry(CHEAP, (None, None, None), limit="time")], [])
    for each in (summary, priced, closed, nothing, at(priced, 9000.0), replace(priced, reasons=("late",))):
        found = recommendation_json.to_dict(each.recommendation)
        schema.validator("recommendation").validate(json.loads(write_json(found)))


def test_a_path_that_is_not_in_the_run_is_named_with_those_that_are(summary: Summary) -> None:
    with pytest.raises(ReportError, match="x@y is not in this run; there are keras_dense@tfserving, simple_nn@onnx"):
        asked(summary, 500, paths=("x@y",))
