"""What a run's document says, whoever writes it."""

import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.__main__ import main
from loadtest.options import LoadOptions, argument_parser
from report.document import Detail
from report.documents import run
from report.documents.again import command
from report.documents.instrument import warm_up
from report.documents.verdicts import headlines
from report.summary import Summary, build
from tests.synthetic_run import write_run
from tests.unit.report.plain import plain

DIRECT = "simple_nn@onnx.direct"


def said(summary: Summary, detail: Detail = Detail.FULL) -> str:
    return plain(run.document(summary), detail)


def test_every_sentence_of_a_verdict_is_there_below_the_best_paths_and_above_the_results(summary: Summary) -> None:
    verdicts, text = summary.verdicts, said(summary)
    assert len(verdicts) == 8
    assert [verdict.sentence for verdict in verdicts if verdict.sentence not in text] == []
    best = "p50 of response times, reached directly: simple_nn@onnx direct [onnxruntime 1.31.1 (CPUExecutionProvider)]"
    assert text.index(best) < text.index(verdicts[0].sentence) < text.index("\nResults\n")


def test_in_brief_only_what_is_decided_is_said_and_the_rest_is_counted(summary: Summary) -> None:
    text = said(summary, Detail.BRIEF)
    sentences = {verdict.sentence: verdict.decided for verdict in summary.verdicts}
    assert {sentence: sentence in text for sentence in sentences} == sentences
    assert "comparisons: 4 decided, 0 too close to call, 4 with too few rounds" in text.splitlines()
    assert len(text.splitlines()) < 40


def test_engine_version_and_missing_percentiles_stand_in_the_results(summary: Summary) -> None:
    (line, _) = [line for line in said(summary).splitlines() if line.startswith("keras_dense@tfserving embedded")]
    assert line.startswith("keras_dense@tfserving embedded (tensorflow 2.21.0) direct 501.0 of 500 1,320 0 0 1.161 ")
    assert line.split()[-4] == line.split()[-1] == "-"


def test_what_the_gateway_adds_stands_beside_its_share(summary: Summary) -> None:
    (_, line) = [line for line in said(summary).splitlines() if line.startswith("simple_nn@onnx onnxruntime")]
    assert re.search(r" \d\d% \+0\.3\d\d ms$", line)


def test_a_run_of_sides_tells_them_apart_and_says_how_they_compare(tmp_path: Path) -> None:
    summary = build(write_run(tmp_path / "run", rounds=11, requests=662, sides={"old": 1.0, "new": 1.2}))
    text = plain(run.document(summary))
    assert "Between servers of the same path\np50: keras_dense@tfserving direct old" in text
    assert " --side new=FILE --side old=FILE" in text


def test_what_each_paths_proof_saw_is_said_once_and_in_brief(stored: Any) -> None:
    why = "in a batch of 64 rows, output 'y' is [1], the reference says [1.5]: 0.5 apart; rows alone are right"
    proofs = {
        "keras_dense@tfserving.gateway": {"difference": 1.234e-07, "refused": "", "unbatched": why},
        "simple_nn@onnx.gateway": {"difference": 0.0, "refused": "", "unbatched": ""},
    }
    stored.change_facts(proofs=proofs)
    lines = said(build(stored.folder), Detail.BRIEF).splitlines()
    title = lines.index("Difference from the reference, where each path is served")
    assert lines[title + 1] == f"keras_dense@tfserving: at most 1.2e-07; not batched: {why}"
    assert lines[title + 2] == "simple_nn@onnx: at most 0"
    assert sum(line.startswith("simple_nn@onnx: ") for line in lines) == 1


@pytest.mark.parametrize(
    ("difference", "refused", "line"),
    [
        (None, "", "simple_nn@onnx: not proven"),
        (None, "it answers nothing", "simple_nn@onnx: refused: it answers nothing"),
        (0.5, "output 'y' is off", "simple_nn@onnx: at most 0.5; refused: output 'y' is off"),
    ],
)
def test_a_path_that_is_not_proven_or_refused_is_said_to_be_so(
    stored: Any, difference: float | None, refused: str, line: str
) -> None:
    proof = {"difference": difference, "refused": refused, "unbatched": ""}
    stored.change_facts(proofs={"simple_nn@onnx.gateway": proof})
    assert line in said(build(stored.folder), Detail.BRIEF).splitlines()


def test_a_run_from_before_proofs_were_recorded_says_nothing_of_them(summary: Summary) -> None:
    assert "where each path is served" not in said(summary)


def test_a_run_that_is_not_valid_says_why_and_has_no_verdict(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda rows: [*rows[:-1], rows[-1] | {"wrong": True}], only_round=0)
    text = said(build(stored.folder))
    assert "not valid: simple_nn@onnx direct: 1 of 1,320 responses are incorrect" in text.splitlines()
    assert "None: a run that is not valid gives no verdict." in text
    assert "is faster than" not in text


def test_a_synthetic_run_says_that_nobody_was_measured(summary: Summary) -> None:
    assert "not a measurement: made by tests/synthetic_run.py" in said(summary)


def test_the_command_to_do_it_again_is_one_that_the_load_test_understands_as_before(stored: Any) -> None:
    words = "--paths simple_nn@onnx --via direct --rounds 3 --rate 250.5 --arrivals constant --closed-loop --seed 9"
    options = argument_parser().read(LoadOptions, [*words.split(), "--allow", "threads", "--allow", "plan"])
    facts = {name: str(value) if hasattr(value, "parts") else value for name, value in asdict(options).items()}
    stored.change_facts(arguments=facts, seed=9)
    again = shlex.split(command(build(stored.folder)))
    assert again[:3] == ["python", "-m", "loadtest"]
    assert argument_parser().read(LoadOptions, again[3:]) == options


@pytest.mark.parametrize(
    ("words", "processes"),
    [("--processes 0 --workers 2", 2), ("--processes 1 --workers 3", 3), ("--processes 2", 2), ("", 1)],
)
def test_a_run_with_workers_elsewhere_is_done_again_with_as_many_processes(
    stored: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, processes: int
) -> None:
    options = argument_parser().read(LoadOptions, [*words.split(), "--seed", "9"])
    facts = {name: str(value) if hasattr(value, "parts") else value for name, value in asdict(options).items()}
    stored.change_facts(arguments=facts, seed=9)
    again = shlex.split(command(build(stored.folder)))[3:]
    assert argument_parser().read(LoadOptions, again).processes == processes
    # Beyond the parser: all is accepted that can be said without a list of paths.
    assert main([*again, f"--deployments={tmp_path / 'none.toml'}"]) == 1
    assert "none.toml is missing" in capsys.readouterr().err


def test_what_ran_with_tuned_settings_is_done_again_with_them(stored: Any) -> None:
    fairness = stored.facts()["fairness"]
    tuned = {"settings": {"class": "subject", "value": "tuned 2026-11-29 for rate; onnx: threads 4"}}
    fairness["paths"]["simple_nn@onnx.direct"] |= tuned
    stored.change_facts(fairness=fairness)
    text = plain(run.document(build(stored.folder)), Detail.FULL)
    assert f"git checkout {'0' * 40} && servepath up --tuned && python -m loadtest" in text


def test_the_command_to_go_on_until_it_is_known_again_names_no_rounds(stored: Any) -> None:
    options = argument_parser().read(LoadOptions, ["--difference", "0.1", "--minutes", "7", "--seed", "9"])
    facts = {name: str(value) if hasattr(value, "parts") else value for name, value in asdict(options).items()}
    stored.change_facts(arguments=facts, seed=9)
    again = command(build(stored.folder))
    assert "--difference 0.1 --minutes 7" in again
    assert "--rounds" not in again


def test_the_commit_and_a_drawn_seed_are_repeated(summary: Summary) -> None:
    again = f"git checkout {'0' * 40} && python -m loadtest --rounds 12 --rows 1 --rate 500 --seed 7"
    assert again in said(summary).splitlines()


def test_a_path_that_was_not_stable_after_its_warm_up_is_said(stored: Any) -> None:
    warmup = stored.facts()["warmup"]
    warmup[0]["stable"] = False
    stored.change_facts(warmup=warmup)
    found = list(warm_up(build(stored.folder)))
    assert len(found) == 4
    first = "keras_dense@tfserving direct: 1.5 s, 750 requests"
    assert [line for line in found if "not stable" in line] == [f"{first}, and its median was not stable yet"]


def test_several_undefeated_paths_are_all_named(stored: Any) -> None:
    for measurement in (DIRECT, "keras_dense@tfserving.direct"):
        stored.change_rows(
            measurement, lambda rows: [row | {"response_us": 500.0 + row["sent_ns"] % 7} for row in rows]
        )
    (first, *_) = headlines(build(stored.folder))
    assert first.startswith(
        "p50 of response times, reached directly: no path is faster than keras_dense@tfserving direct"
    )
    assert "or simple_nn@onnx direct" in first
    assert first.endswith("which of them is fastest is too close to call")


def test_the_closed_loop_is_explained(stored: Any) -> None:
    stored.close_loop()
    assert "This run was a closed loop: each caller waited for its reply" in said(build(stored.folder))
    assert "each user waits for its reply" in said(build(stored.folder))


def test_where_a_closed_loop_would_have_hidden_something_is_named(stored: Any) -> None:
    def stand_still(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make the last thirty requests of a round wait for the same moment."""
        end_ns = max(row["sent_ns"] for row in rows) + 10**9
        for row in rows[-30:]:
            row["service_us"] = (end_ns - row["sent_ns"]) / 1e3
            row["response_us"] = (end_ns - row["scheduled_ns"]) / 1e3
        return rows

    assert "would have recorded the same p99 within 20 % on every path" in said(build(stored.folder))
    stored.change_rows(DIRECT, stand_still, only_round=2)
    assert re.search(
        r"simple_nn@onnx direct: p99 is 1,0\d\d\.\d{3} ms by the schedule; a closed-loop caller would "
        r"have reported \d\.\d{3} ms",
        said(build(stored.folder)),
    )


def test_what_one_waiting_caller_was_too_slow_to_tell_is_not_known(stored: Any) -> None:
    def slow(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Let each request take two seconds, so that a caller who waits makes few."""
        times_us = [2e6 + row["sent_ns"] % 7 for row in rows]
        return [row | {"service_us": us, "response_us": us} for row, us in zip(rows, times_us, strict=True)]

    stored.change_rows(DIRECT, slow)
    text = said(build(stored.folder))
    assert "Not known of simple_nn@onnx direct: one waiting caller would have recorded too few responses." in text
    assert "On the others it would have recorded the same p99 within 20 %." in text


def with_settings(summary: Summary, said: dict[str, str]) -> Summary:
    fairness = summary.facts["fairness"]
    paths = {
        name: keys | ({"settings": {"class": "subject", "value": said[name]}} if name in said else {})
        for name, keys in fairness["paths"].items()
    }
    return replace(summary, facts={**summary.facts, "fairness": {**fairness, "paths": paths}})


def test_tuned_settings_are_named_and_so_are_the_paths_with_default_ones(summary: Summary) -> None:
    names = dict.fromkeys(summary.facts["fairness"]["paths"], "default")
    tuned = "tuned 2026-11-29 for rate; onnx: threads 4"
    brief = said(with_settings(summary, names | {DIRECT: tuned}), Detail.BRIEF)
    assert f"{DIRECT}: {tuned}" in brief
    assert re.search(r"keras_dense@tfserving\.direct.*: default", brief)
    assert "Every path ran with its default settings." in said(with_settings(summary, names), Detail.USUAL)


def test_a_run_from_before_settings_were_recorded_says_nothing_of_them(summary: Summary) -> None:
    assert "default settings" not in said(with_settings(summary, {}))
