"""The command goes on where it ended: what ended is counted and not measured again."""

import json
from pathlib import Path

import pytest

from studies.injected_delay.__main__ import main
from tests.unit.studies.injected_delay.conftest import WriteSides

pytestmark = pytest.mark.slow

ALIKE = {"a": 1.0, "b": 1.0, "injected": 1.05}


def words(out: Path, runs: int, *more: str) -> list[str]:
    """Return words with which nothing can be served: a run that is not there cannot be done."""
    return ["--out", str(out), "--runs", str(runs), "--simulations", "0", "--exports", str(out / "none"), *more]


def test_runs_that_ended_count_and_an_interrupted_one_does_not(
    write_sides: WriteSides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sides("1", ALIKE)
    write_sides("2", ALIKE, complete=False)
    assert main(words(tmp_path, 1)) == 0
    said = json.loads((tmp_path / "validation.json").read_text())
    assert [trial["run"] for trial in said["trials"]] == ["1"]
    assert said["calibration"]["delay_us"] == 38.0
    assert (tmp_path / "validation.md").read_text() in capsys.readouterr().out


def test_what_is_missing_is_measured_and_a_server_that_does_not_start_is_named(
    write_sides: WriteSides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sides("1", ALIKE)
    assert main(words(tmp_path, 2)) == 1
    assert "none holds no ONNX artifact; run: make export" in capsys.readouterr().err


def test_counts_that_contradict_a_claim_give_3(write_sides: WriteSides, tmp_path: Path) -> None:
    for number in range(5):  # 0 of 5: the exact interval ends at 52 %
        write_sides(f"{number}", {"a": 1.0, "b": 1.0, "injected": 1.0})
    assert main(words(tmp_path, 5)) == 3


def test_a_list_of_paths_without_the_stack_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deployments.toml").write_text('[models.a]\ndefault = "torchserve"\n[models.a.stacks.torchserve]\n')
    with pytest.raises(SystemExit, match="2"):
        main(words(tmp_path, 1))
    assert "--path: '' is not MODEL@onnx" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["no JSON", '{"rate": 1}', "[]"])
def test_a_calibration_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    assert main(words(tmp_path, 1)) == 1
    assert "calibration.json is no calibration" in capsys.readouterr().err


def test_a_folder_that_was_begun_with_another_plan_is_refused(
    write_sides: WriteSides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sides("1", ALIKE)
    assert main(words(tmp_path, 1, "--rounds", "11")) == 1
    assert "was begun with simple_nn@onnx, 20 rounds, 500/s" in capsys.readouterr().err


def test_too_many_invalid_runs_end_it(
    write_sides: WriteSides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_sides(f"{number}", ALIKE, late_us=50_000)
    assert main(words(tmp_path, 1)) == 1
    assert "2 runs were INVALID, more than requested" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--path", "simple_nn@torchserve"], "'simple_nn@torchserve' is not MODEL@onnx"),
        (["--rounds", "10"], "'10' is not a whole number from 11"),
        (["--minutes", "15"], "--minutes: it has no effect without --difference; leave it out"),
        (["--difference", "0.05", "--rounds", "20"], "--rounds: it has no effect beside --difference; leave it out"),
    ],
)
def test_a_bad_value_is_named(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words(tmp_path, 1, *more))
    assert said in capsys.readouterr().err
