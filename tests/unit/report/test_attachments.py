"""Capacity and scorecard: what other commands add to a run."""

import json
from typing import Any

import pytest

from report.document import Detail
from report.documents import run
from report.documents.attachments import figures, origin
from report.schema import ReportError
from report.summary import build
from tests.synthetic_run import add_the_rest
from tests.unit.report.plain import plain

pytestmark = pytest.mark.slow

PATH = {"model": "simple_nn", "stack": "onnx", "via": "gateway", "cores": 1, "steps": []}
NO_RATE = {"rate_rps": None, "low_rps": None, "high_rps": None}
OVERLOAD = [{"factor": 1.5, "goodput_rps": 880, "refused_share": 0.3, "recovery_s": 0.4}]


def said(stored: Any, detail: Detail = Detail.FULL) -> list[str]:
    return plain(run.document(build(stored.folder)), detail).splitlines()


def test_the_capacity_is_answered_for_each_path(stored: Any) -> None:
    good = PATH | {"rate_rps": 900, "low_rps": 850, "high_rps": 950, "overload": OVERLOAD}
    none = PATH | NO_RATE | {"model": "keras_dense", "stack": "tfserving", "high_rps": 125}
    other = "keras_dense@tfserving gateway [embedded (tensorflow 2.21.0)]"
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [good, none]})
    lines = said(stored, Detail.BRIEF)
    at = lines.index("For 2,000 req/s at p99 below 5 ms:")
    assert lines[at + 1 : at + 3] == [
        "simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] 3 cores",
        f"{other} does not meet it at 125 req/s, the lowest rate tried",
    ]
    row = "simple_nn@onnx gateway 900 850..950 1 1.5x: 880/s correct in time, 30% refused, recovered in 0.4 s."
    assert row in said(stored)


def test_the_settings_under_which_a_capacity_was_found_are_named_where_they_are_not_the_defaults(stored: Any) -> None:
    tuned = PATH | {"rate_rps": 900, "low_rps": 850, "high_rps": 950, "settings": "tuned 2026-11-29; onnx: threads 4"}
    plain_one = tuned | {"via": "direct", "settings": "default"}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [tuned, plain_one]})
    lines = said(stored, Detail.BRIEF)
    name = "[onnxruntime 1.31.1 (CPUExecutionProvider)] 3 cores"
    assert f"simple_nn@onnx gateway {name}; settings: tuned 2026-11-29; onnx: threads 4" in lines
    assert f"simple_nn@onnx direct {name}" in lines


def test_a_capacity_names_who_answered_also_of_a_path_that_the_run_did_not_load(stored: Any) -> None:
    strange = PATH | {"model": "other", "rate_rps": 900, "low_rps": 850, "high_rps": 950, "cores": 2}
    said_so = strange | {"engine": "embedded", "engine_version": "tensorflow 2.21.0"}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [strange, said_so | {"via": "direct"}]})
    lines = "\n".join(said(stored, Detail.BRIEF))
    assert "other@onnx gateway [not in this run]" in lines
    assert "other@onnx direct [embedded (tensorflow 2.21.0)]" in lines


def test_a_capacity_that_the_generator_ended_is_at_least_that(stored: Any) -> None:
    least = PATH | {"rate_rps": 4000, "low_rps": 4000, "high_rps": None, "limit": "generator", "cores": 2}
    unseen = PATH | {"rate_rps": 1000, "low_rps": None, "high_rps": 1100, "via": "direct", "cores": None}
    stored.write("capacity", {"slo_p99_ms": 5, "wanted_rps": 9000, "complete": False, "paths": [least, unseen]})
    lines = said(stored)
    assert "simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] at most 5 cores" in lines
    at = lines.index("simple_nn@onnx direct [onnxruntime 1.31.1 (CPUExecutionProvider)] 9 times what it has")
    assert lines[at + 1] == "The search was interrupted."
    assert "simple_nn@onnx gateway at least 4,000 (the generator's limit) 4,000..? 2 not measured." in lines
    assert "simple_nn@onnx direct 1,000 ?..1,100 - not measured." in lines


@pytest.mark.parametrize(("rate_rps", "times"), [(125, "16 times"), (20, "100 times"), (1.5, "1,333 times")])
def test_how_many_times_a_server_elsewhere_is_written_in_digits(stored: Any, rate_rps: float, times: str) -> None:
    elsewhere = PATH | {"rate_rps": rate_rps, "low_rps": None, "high_rps": None, "cores": None}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [elsewhere]})
    assert f"simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] {times} what it has" in said(stored)


@pytest.mark.parametrize(("value", "text"), [(0.0122, "0.0122"), (999.4, "999"), (999.6, "1,000"), (2040.3, "2,040")])
def test_a_figure_is_written_in_digits(value: float, text: str) -> None:
    (found,) = figures([CARDS[0] | {"figures": [figure("idle memory", value, "")]}])
    assert found.values == (text,)


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("server", "does not meet it at any rate that was tried"),
        ("wrong answers", "has no capacity (wrong answers)"),
        ("generator", "has no capacity (the generator was the limit)"),
        ("time", "has no capacity (no rate passed in time)"),
    ],
)
def test_why_there_is_no_capacity_is_said(stored: Any, limit: str, why: str) -> None:
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [PATH | NO_RATE | {"limit": limit}]})
    assert f"simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] {why}" in said(stored)


def test_what_happens_beyond_names_codes_and_a_generator_that_could_not_keep_up(stored: Any) -> None:
    over = {"factor": 3, "goodput_rps": 700, "refused_share": 0.5, "recovery_s": None, "valid": False}
    over["codes"] = {"OK": 10, "RESOURCE_EXHAUSTED": 10}
    null = {"rate_rps": 900, "p99_ms": 0.4, "late_share": 0, "generator_cpu": 0.21, "valid": True}
    path = PATH | {"rate_rps": 900, "low_rps": 850, "high_rps": 950, "overload": [over], "null": null}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [path]})
    lines = said(stored, Detail.USUAL)
    at = lines.index(
        "simple_nn@onnx gateway 900 850..950 1 3x: 700/s correct in time, 50% refused (RESOURCE_EXHAUSTED 10), "
        "did not recover; the generator could not keep its schedule."
    )
    assert lines[at + 1] == "The no-op server at 900 req/s: p99 0.40 ms, generator 21%."


@pytest.mark.parametrize(("count", "text"), [(1, "1 wrong answer"), (1200, "1,200 wrong answers")])
def test_wrong_answers_beyond_the_capacity_are_counted(stored: Any, count: int, text: str) -> None:
    over = [OVERLOAD[0] | {"wrong_answers": count}]
    path = PATH | NO_RATE | {"limit": "wrong answers", "overload": over}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [path]})
    beyond = f"1.5x: 880/s correct in time, 30% refused, {text}, recovered in 0.4 s."
    assert f"simple_nn@onnx gateway wrong answers - 1 {beyond}" in said(stored)


def figure(name: str, value: float | None, note: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "MB", "note": note}


NO_GPU = figure("GPU memory", None, "no GPU here")
CARDS = [
    {
        "model": "keras_dense",
        "stack": "tfserving",
        "engine": "embedded",
        "engine_version": "tensorflow 2.21.0",
        "figures": [figure("install size", 1900.4, "closure of tf-svc"), NO_GPU],
    },
    {
        "model": "simple_nn",
        "stack": "onnx",
        "engine": "onnxruntime",
        "engine_version": "1.31.1",
        "figures": [figure("install size", 412.44, "closure of onnx-svc"), NO_GPU, figure("image size", None, "old")],
    },
]


def test_the_scorecard_shows_what_was_measured_and_of_which_engine_and_says_what_was_not(stored: Any) -> None:
    stored.write("scorecard", CARDS)
    lines = said(stored, Detail.USUAL)
    at = lines.index(
        "what keras_dense@tfserving embedded (tensorflow 2.21.0) simple_nn@onnx onnxruntime 1.31.1",
    )
    assert lines[at + 1] == "install size, MB 1,900 412"
    assert "GPU memory, MB not measured not measured" in lines
    assert "not measured: GPU memory: no GPU here" in lines
    assert "not measured: image size of simple_nn@onnx: old" in lines
    assert "not measured: image size of keras_dense@tfserving: not in the scorecard of this path" in lines


def test_what_was_added_on_another_day_or_of_another_commit_says_so(stored: Any) -> None:
    add_the_rest(stored.folder)
    when = "measured on 2026-11-24, of commit 1111111111-dirty; the run is of 2026-11-23 and of 0000000000"
    lines = said(stored, Detail.BRIEF)
    assert (f"Capacity {when}." in lines, f"Scorecard {when}." in lines) == (True, True)


def test_what_was_added_on_the_same_day_of_the_same_commit_needs_no_word() -> None:
    facts = {"started": "2026-11-23T23:59:59+00:00", "git_commit": "0" * 40}
    assert origin({"started": "2026-11-23T01:00:00+00:00", "git_commit": "0" * 40}, facts) == ""
    assert origin({}, facts) == ""  # does not say


@pytest.mark.parametrize("commit", ["unknown", "0" * 40 + "-dirty"])
def test_what_no_commit_names_may_be_other_code_and_that_is_said(stored: Any, commit: str) -> None:
    add_the_rest(stored.folder)
    stored.change_facts(git_commit=commit)
    for name, content in (("capacity", "capacity"), ("scorecard", None)):
        file = stored.folder / f"{name}.json"
        found = json.loads(file.read_text())
        about = found[content] if content else found
        about |= {"git_commit": commit, "started": "2026-11-23T10:00:00+00:00", "measured": "2026-11-23T10:00:00+00:00"}
        file.write_text(json.dumps(found))
    lines = said(stored)
    for name in ("Capacity", "Scorecard"):
        why = "measured with code that no commit names: its paths and the run may be of different code."
        assert f"{name} {why}" in lines
        assert f"Whether the code of the {name.lower()} is the run's: no commit names it." in lines


def test_a_pull_request_sees_the_capacity_and_the_scorecard_folded(stored: Any) -> None:
    add_the_rest(stored.folder)
    lines = said(stored, Detail.BRIEF)
    at = lines.index("All figures")
    assert lines[at + 2] == "install size, MiB 412 412"
    assert "For 2,000 req/s at p99 below 12 ms:" in lines
    assert not any(line.startswith("How each was measured") for line in lines)


def test_how_each_figure_was_measured_is_said_and_of_whom(stored: Any) -> None:
    stored.write("scorecard", CARDS)
    lines = said(stored)
    at = lines.index("How each was measured")
    assert lines[at + 1 : at + 4] == [
        "install size keras_dense@tfserving closure of tf-svc",
        "install size simple_nn@onnx closure of onnx-svc",
        "GPU memory no GPU here",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("capacity", {"paths": []}, "capacity.json: $.capacity: 'slo_p99_ms' is a required property"),
        ("scorecard", {}, "scorecard.json: $.scorecard: {} is not of type 'array'; see scorecard.schema.json"),
    ],
)
def test_what_is_no_such_file_is_named(stored: Any, name: str, content: object, said: str) -> None:
    stored.write(name, content)
    with pytest.raises(ReportError) as caught:
        build(stored.folder)
    assert said in str(caught.value)
