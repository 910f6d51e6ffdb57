import json
from pathlib import Path
from typing import Any

import pytest

from servepath.demo.compare import SUMMARY, Workplace
from studies.foreign.__main__ import FetchError, fetch, parse_args
from studies.foreign.models import MODELS, Package
from studies.foreign.outcome import Outcome, lines_of
from tests.manifests import write_manifest

SAID = "  no path on tfserving: it serves saved_model\n  onnx: version 1 written\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(stack: str, p50_ms: float) -> dict[str, Any]:
    engine = {"model": "m", "stack": stack, "engine": "onnxruntime", "engine_version": "1.0"}
    counts = {"requests": 1200, "errors": 0, "wrong_answers": 0, "rate_rps": 50.0}
    return {**engine, **counts, "response_p50_ms": p50_ms}


def test_a_comparison_is_a_line_for_each_path_its_refusals_and_its_conclusion() -> None:
    folder = Workplace("m").exports / "m"
    (folder / "onnx" / "1").mkdir(parents=True)
    write_manifest(folder / "onnx" / "1", "m", "onnx", 1)
    (folder / "current").write_text("1\n")
    SUMMARY.parent.mkdir(parents=True)
    SUMMARY.write_text(json.dumps({"valid": False, "paths": [row("onnx", 2.5)], "verdicts": []}))
    found = list(lines_of([Outcome.read("m", 0, SAID)]))
    assert found[1].startswith("m@onnx | onnxruntime 1.0 | batched | ")
    assert found[1].endswith(" | 2.5 | 1,200 requests, 0 errors, 0 wrong")
    assert found[2] == "no m@tfserving: it serves saved_model"
    assert found[3].startswith("m: m@onnx [onnxruntime 1.0] is the only path that can serve it: p50 2.5 ms")
    assert found[3].endswith("(times not valid)")


def test_a_comparison_that_failed_is_its_last_line() -> None:
    outcome = Outcome.read("m", 1, f"{SAID}compare failed: import ended with 1\n")
    assert list(lines_of([outcome]))[1:] == [
        "no m@tfserving: it serves saved_model",
        "m: failed: compare failed: import ended with 1",
    ]


def test_every_model_has_its_wheel_pinned_and_its_spec_file() -> None:
    assert all(len(model.package.sha256) == 64 and "==" in model.package.requirement for model in MODELS)
    assert all(model.spec_file.is_file() for model in MODELS if model.spec_file)


def test_a_model_that_is_not_here_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["nothing"])
    assert "'nothing' is none of the models here" in capsys.readouterr().err
    assert [model.name for model in parse_args(["magika"]).model] == ["magika"]


def test_a_wheel_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match=r"pip cannot fetch servepath-none==1\.0: .*No matching distribution"):
        fetch(Package("servepath-none==1.0", "0" * 64), tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []
