from pathlib import Path
from typing import Any

import pytest

from loadtest.tune.kept import kept
from servepath.protocols import tuned
from tests.exports import make_export
from tests.tuned import make_tuned, write_tuned


def stays(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> bool:
    sha256 = make_export(folder / "exports", "m", "onnx").sha256
    write_tuned(folder, "m@onnx", {"threads": 4}, **{"artifact_sha256": sha256, **old})
    made = make_tuned("m@onnx", {}, **{"artifact_sha256": sha256, "confirmed": False, **new})
    return kept(tuned.file_of(folder, "m@onnx"), made, folder / "exports") is not None


def test_a_confirmed_file_stays_where_the_new_result_is_not_confirmed(tmp_path: Path) -> None:
    assert stays(tmp_path, {}, {})


@pytest.mark.parametrize("new", [{"goal": "cpu"}, {"slo_p99_ms": 50.0}, {"requests": "64 rows, 4 connections"}])
def test_it_stays_where_the_new_result_is_for_something_else(tmp_path: Path, new: dict[str, Any]) -> None:
    assert stays(tmp_path, {}, new)


def test_it_stays_where_for_something_else_no_settings_are_better(tmp_path: Path) -> None:
    assert stays(tmp_path, {}, {"confirmed": True, "best": "threads 2", "goal": "cpu"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"confirmed": True}),
        ({}, {"confirmed": True, "goal": "cpu"}),
        ({}, {"confirmed": True, "best": "threads 2"}),
        ({"confirmed": False}, {}),
        ({"engine": "onnxruntime 1.0"}, {}),
        ({"host": "64 cores, Big"}, {}),
        ({"artifact_sha256": "cd" * 32}, {}),
        ({"default_limits": "max_in_flight 9"}, {}),
    ],
)
def test_it_is_replaced_by_a_confirmed_one_and_where_it_no_longer_applies(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert not stays(tmp_path, old, new)


def test_no_file_and_one_that_cannot_be_read_do_not_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_tuned("m@onnx", {}, confirmed=False)

    assert kept(tmp_path / "m@onnx.toml", made, tmp_path) is None
    assert caplog.records == []
    (tmp_path / "m@onnx.toml").write_text("[")
    assert kept(tmp_path / "m@onnx.toml", made, tmp_path) is None
