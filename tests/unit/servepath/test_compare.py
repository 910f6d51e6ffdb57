import json
from pathlib import Path
from typing import Any

import pytest

from report.verdicts import MIN_ROUNDS
from servepath.demo.compare import FOLDER, ROUNDS, Workplace, conclude, load_arguments, main, name_of, settings

SUMMARY: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/run/expected.json").read_text())


def row(stack: str, p50_ms: float) -> dict[str, Any]:
    engine = {"onnx": "onnxruntime", "tfserving": "embedded"}.get(stack, stack)
    own = {"model": "m", "stack": stack, "via": "gateway", "engine": engine, "engine_version": "1.0"}
    return {**own, "response_p50_ms": p50_ms, "rate_rps": 40.0}


def verdict(a: str, b: str, side: str) -> dict[str, Any]:
    named = {"a": f"m@{a}.gateway", "b": f"m@{b}.gateway"}
    return {**SUMMARY["verdicts"][0], **named, "verdict": side, "sentence": f"{a} or {b}: {side}"}


def test_the_faster_path_is_taken_where_a_verdict_says_so() -> None:
    summary = {"paths": [row("tfserving", 9.5), row("onnx", 6.0)], "verdicts": [verdict("tfserving", "onnx", "b")]}
    assert conclude(summary) == [
        "take m@onnx [onnxruntime 1.0]: p50 6 ms at 40 requests/s through the gateway",
        "tfserving or onnx: b",
    ]


def test_nothing_is_recommended_where_no_verdict_is_decided() -> None:
    undecided = [verdict("tfserving", "onnx", "too close to call")]
    (line,) = conclude({"paths": [row("tfserving", 6.1), row("onnx", 6.0)], "verdicts": undecided})
    assert line.startswith("no path is clearly the fastest at 40 requests/s")
    assert "m@onnx [onnxruntime 1.0] 6 ms, m@tfserving [embedded 1.0] 6.1 ms" in line


def test_paths_that_are_too_close_to_call_are_both_named_although_each_beats_a_third() -> None:
    rows = [row("onnx", 6.0), row("litert", 6.1), row("torchserve", 9.5)]
    first_two = verdict("litert", "onnx", "too close to call")
    both_won = [verdict("litert", "torchserve", "a"), verdict("torchserve", "onnx", "b")]
    line, *why = conclude({"paths": rows, "verdicts": [first_two, *both_won]})
    assert "p50 m@onnx [onnxruntime 1.0] 6 ms, m@litert [litert 1.0] 6.1 ms; more --minutes" in line
    assert "torchserve" not in line
    assert why == ["litert or torchserve: a", "torchserve or onnx: b"]
    line, *_ = conclude({"paths": rows, "verdicts": [verdict("litert", "onnx", "b"), *both_won]})
    assert line.startswith("take m@onnx ")


def test_a_single_path_is_said_to_be_the_only_one() -> None:
    assert conclude({"paths": [row("onnx", 6.0)], "verdicts": []}) == [
        "m@onnx [onnxruntime 1.0] is the only path that can serve it: p50 6 ms at 40 requests/s"
    ]


@pytest.mark.parametrize(
    ("rate", "minutes", "paths", "duration"), [(500.0, 3.0, 2, 5.0), (4.0, 3.0, 2, 20.83), (500.0, 0.001, 1, 1.35)]
)
def test_a_slow_model_is_loaded_until_its_percentiles_count(
    rate: float, minutes: float, paths: int, duration: float
) -> None:
    words = load_arguments(rate, minutes, paths)
    assert f"--duration={duration:g}" in words
    assert "--min-requests=84" in words


def test_a_comparison_has_rounds_enough_for_a_verdict() -> None:
    assert ROUNDS >= MIN_ROUNDS
    assert f"--rounds={ROUNDS}" in load_arguments(500.0, 3.0, 2)


@pytest.mark.parametrize(
    ("path", "name"), [("a/model.onnx", "model"), ("my model (2).keras", "my_model_2_"), ("_x", "x"), ("...", "model")]
)
def test_a_name_is_made_of_the_files(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_paths_that_share_their_limits_share_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Workplace("m")
    (FOLDER / "m").mkdir(parents=True)
    stacks = "[models.m.stacks.torchserve]\n[models.m.stacks.tfserving]\n[models.m.stacks.onnx]\nmax_merge_rows = 1\n"
    place.deployments.write_text('[models.m]\ndefault = "onnx"\n' + stacks)
    both, alone = settings(place)
    assert both.startswith("measured with max_in_flight 2, max_queue 1024, max_merge_rows 64, ")
    assert both.endswith(": m@torchserve, m@tfserving")
    assert "max_merge_rows 1," in alone
    assert alone.endswith(": m@onnx")


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(FOLDER.parts[0]).write_text("a file in its place")
    assert main(["mine.onnx"]) == 1
    assert capsys.readouterr().out.startswith("compare failed: ")
