"""Capacity and scorecard: what other commands add to a run."""

import io
from typing import Any

import pytest
from rich.console import Console

from report import cards, markdown, page, sentences, terminal
from report.build import build
from report.schema import ReportError
from report.summary import Summary
from tests.synthetic_run import add_the_rest
from tests.unit.report.test_page import text_of

PATH = {"model": "simple_nn", "stack": "onnx", "via": "gateway", "cores": 1, "steps": []}
NO_RATE = {"rate_rps": None, "low_rps": None, "high_rps": None}
OVERLOAD = [{"factor": 1.5, "goodput_rps": 880, "refused_share": 0.3, "recovery_s": 0.4}]


def test_the_capacity_is_answered_in_a_sentence(stored: Any) -> None:
    good = PATH | {"rate_rps": 900, "low_rps": 850, "high_rps": 950, "overload": OVERLOAD}
    none = PATH | NO_RATE | {"model": "keras_dense", "stack": "tfserving"}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [good, none]})
    text = text_of(page.render(build(stored.folder)))
    assert (
        "simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] 3 cores "
        "keras_dense@tfserving gateway [embedded (tensorflow 2.21.0)] does not meet it at any rate "
    ) in text
    assert "For 2,000 req/s at p99 below 5 ms: " in text
    assert str(sentences.answer(build(stored.folder))).endswith(
        "3 cores, keras_dense@tfserving gateway [embedded (tensorflow 2.21.0)] does not meet it at any rate."
    )
    assert "900 850..950 1 1.5x: 880/s correct in time, 30% refused, recovered in 0.4 s." in text


def test_a_capacity_that_the_generator_ended_is_at_least_that(stored: Any) -> None:
    least = PATH | {"rate_rps": 4000, "low_rps": 4000, "high_rps": None, "limit": "generator", "cores": 2}
    unseen = PATH | {"rate_rps": 1000, "low_rps": None, "high_rps": 1100, "via": "direct", "cores": None}
    stored.write("capacity", {"slo_p99_ms": 5, "wanted_rps": 9000, "complete": False, "paths": [least, unseen]})
    text = text_of(page.render(build(stored.folder)))
    assert "simple_nn@onnx gateway [onnxruntime 1.31.1 (CPUExecutionProvider)] at most 5 cores " in text
    assert "(CPUExecutionProvider)] 9 times what it has The search was interrupted." in text
    assert "at least 4,000 (the generator's limit) 4,000..? 2" in text
    assert "1,000 ?..1,100 -" in text


@pytest.mark.parametrize(("rate_rps", "said"), [(125, "16 times"), (20, "100 times"), (1.5, "1,333 times")])
def test_how_many_times_a_server_elsewhere_is_written_in_digits(stored: Any, rate_rps: float, said: str) -> None:
    elsewhere = PATH | {"rate_rps": rate_rps, "low_rps": None, "high_rps": None, "cores": None}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [elsewhere]})
    assert str(sentences.answer(build(stored.folder))).endswith(f"(CPUExecutionProvider)] {said} what it has.")


@pytest.mark.parametrize(("value", "said"), [(0.0122, "0.0122"), (999.4, "999"), (999.6, "1,000"), (2040.3, "2,040")])
def test_a_figure_is_written_in_digits(value: float, said: str) -> None:
    (line,) = cards.lines([CARDS[0] | {"figures": [figure("idle memory", value, "")]}])
    assert line.values == (said,)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("server", "does not meet it at any rate"),
        ("wrong answers", "has no capacity (wrong answers)"),
        ("generator", "has no capacity (the generator was the limit)"),
        ("time", "has no capacity (no rate passed in time)"),
    ],
)
def test_why_there_is_no_capacity_is_said(stored: Any, limit: str, said: str) -> None:
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [PATH | NO_RATE | {"limit": limit}]})
    assert next(sentences.capacity(build(stored.folder))).endswith(f"(CPUExecutionProvider)] {said}.")


def test_what_happens_beyond_names_codes_and_a_generator_that_could_not_keep_up(stored: Any) -> None:
    over = {"factor": 3, "goodput_rps": 700, "refused_share": 0.5, "recovery_s": None, "valid": False}
    over["codes"] = {"OK": 10, "RESOURCE_EXHAUSTED": 10}
    null = {"rate_rps": 900, "p99_ms": 0.4, "late_share": 0, "generator_cpu": 0.21, "valid": True}
    path = PATH | {"rate_rps": 900, "low_rps": 850, "high_rps": 950, "overload": [over], "null": null}
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [path]})
    console = Console(record=True, width=300, highlight=False, file=io.StringIO())
    terminal.show(build(stored.folder), console)
    assert (
        "simple_nn@onnx gateway: 900 req/s, 850..950. 3x: 700/s correct in time, 50% refused (RESOURCE_EXHAUSTED 10), "
        "did not recover; the generator could not keep its schedule. The no-op server at 900 req/s: p99 0.40 ms, "
        "generator 21%."
    ) in console.export_text()


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


def terminal_of(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=180)
    terminal.show(summary, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().replace("│", " ").split())


def test_the_scorecard_shows_what_was_measured_and_says_what_was_not(stored: Any) -> None:
    stored.write("scorecard", CARDS)
    summary = build(stored.folder)
    for text in (text_of(page.render(summary)), terminal_of(summary)):
        assert "install size, MB 1,900 412 " in text
        assert "GPU memory, MB not measured not measured" in text
        assert "not measured: GPU memory: no GPU here" in text
        assert "not measured: image size of simple_nn@onnx: old" in text
        assert "not measured: image size of keras_dense@tfserving: not in the scorecard of this path" in text


def test_the_scorecard_names_the_engine_that_was_measured(stored: Any) -> None:
    stored.write("scorecard", CARDS)
    text = text_of(page.render(build(stored.folder)))
    assert "keras_dense@tfserving embedded (tensorflow 2.21.0) simple_nn@onnx onnxruntime 1.31.1 install size" in text


def test_what_was_added_on_another_day_or_of_another_commit_says_so(stored: Any) -> None:
    add_the_rest(stored.folder)
    said = "measured on 2026-11-24, of commit 1111111111-dirty; the run is of 2026-11-23 and of 0000000000"
    summary = build(stored.folder)
    on_page = text_of(page.render(summary))
    assert (f"Capacity {said}." in on_page, f"Scorecard {said}." in on_page) == (True, True)
    assert f"capacity: {said} scorecard: {said}" in terminal_of(summary)
    assert f"**capacity** ({said}): For 2,000 req/s" in markdown.render(summary)


def test_what_was_added_on_the_same_day_of_the_same_commit_needs_no_word(stored: Any) -> None:
    facts = {"started": "2026-11-23T23:59:59+00:00", "git_commit": "0" * 40}
    stored.write("capacity", facts | {"slo_p99_ms": 5, "paths": []})
    stored.write("scorecard", CARDS)  # does not say
    assert dict(sentences.origins(build(stored.folder))) == {}


def test_a_pull_request_sees_the_capacity_in_a_sentence_and_the_scorecard_folded(stored: Any) -> None:
    add_the_rest(stored.folder)
    lines = markdown.render(build(stored.folder)).splitlines()
    assert "| scorecard | keras_dense@tfserving | simple_nn@onnx |" in lines
    assert "| install size, MiB | 412 | 412 |" in lines
    assert "| GPU memory, MiB | not measured | not measured |" in lines
    assert sum("For 2,000 req/s at p99 below 12 ms" in line for line in lines) == 1
    assert lines.count("</details>") == 2


def test_the_page_says_how_each_figure_was_measured_and_of_whom(stored: Any) -> None:
    stored.write("scorecard", CARDS)
    text = text_of(page.render(build(stored.folder)))
    assert (
        "install size keras_dense@tfserving closure of tf-svc install size simple_nn@onnx closure of onnx-svc" in text
    )
    assert "GPU memory no GPU here" in text


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
