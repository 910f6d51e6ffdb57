"""What becomes of the capacities that a run has already."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.attachment import Attachment
from loadtest.plan import Measurement, ServingPath
from servepath.settings import SettingsError

ONE_ROW, TWO_ROWS = (
    {"models": {"m": {"requests": 9, "shapes": [{"inputs": {"x": [rows, 2]}, "requests": 9}], "expected": "-"}}}
    for rows in (1, 2)
)
FACTS = {"slo_p99_ms": 5.0, "git_commit": "abc", "payloads": ONE_ROW}
MINE, OTHER = ({"model": "m", "stack": stack, "via": "direct"} for stack in ("onnx", "tfserving"))
MEASUREMENT = Measurement(ServingPath("m", "onnx"), "direct")


def begun(folder: Path, before: Any) -> list[dict[str, Any]]:
    (folder / "run.json").write_text("{}")
    (folder / "capacity.json").write_text(json.dumps({"capacity": before}))
    attachment = Attachment(folder, dict(FACTS))
    attachment.begin({MEASUREMENT: "default"})
    written = json.loads((folder / "capacity.json").read_text())["capacity"]
    assert (written["paths"], written["complete"]) == (attachment.paths, False)
    return attachment.paths


def test_what_is_searched_again_is_forgotten_and_what_is_not_stays(tmp_path: Path) -> None:
    assert begun(tmp_path, FACTS | {"paths": [MINE, OTHER]}) == [OTHER]


def test_a_capacity_with_other_settings_stays(tmp_path: Path) -> None:
    tuned = MINE | {"settings": "tuned 2026-11-29 for rate; onnx: threads 4"}
    assert begun(tmp_path, FACTS | {"paths": [MINE, tuned]}) == [tuned]


@pytest.mark.parametrize("differs", [{"slo_p99_ms": 6}, {"git_commit": "def"}])
def test_what_is_of_another_objective_or_commit_goes(tmp_path: Path, differs: dict[str, Any]) -> None:
    assert begun(tmp_path, FACTS | differs | {"paths": [OTHER]}) == []


@pytest.mark.parametrize("before", [None, [], {}, FACTS | {"paths": [{}]}, FACTS | {"paths": None}])
def test_a_file_that_is_no_capacity_is_named_and_its_rows_stay(tmp_path: Path, before: Any) -> None:
    rows = tmp_path / f"capacity/{MEASUREMENT}-000.parquet"
    rows.parent.mkdir()
    rows.touch()
    with pytest.raises(SettingsError, match=r"capacity\.json cannot be read .*; remove it"):
        begun(tmp_path, before)
    assert rows.exists()


FILE = {"source": "file", "file": "words.jsonl", "sha256": "aa"}


@pytest.mark.parametrize(
    ("sent", "missing"),
    [(TWO_ROWS, "--rows and no --payloads$"), (ONE_ROW | FILE, r"--rows and --payloads words\.jsonl$")],
)
def test_a_capacity_by_other_requests_than_the_run_sent_is_refused(
    tmp_path: Path, sent: dict[str, Any], missing: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"payloads": sent}))
    with pytest.raises(SettingsError, match=f"has other requests of m: say what that run said, {missing}"):
        Attachment(tmp_path, dict(FACTS)).begin({MEASUREMENT: "default"})
    assert not (tmp_path / "capacity.json").exists()


@pytest.mark.parametrize("sent", [ONE_ROW, {"models": {"other": {}}}, None])
def test_a_capacity_by_the_requests_of_the_run_is_added(tmp_path: Path, sent: Any) -> None:
    (tmp_path / "run.json").write_text(json.dumps({} if sent is None else {"payloads": sent}))
    Attachment(tmp_path, dict(FACTS)).begin({MEASUREMENT: "default"})
    assert (tmp_path / "capacity.json").exists()


def test_the_requests_of_models_searched_before_stay_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    before = FACTS | {"payloads": {"models": {"other": {"requests": 3}}}, "paths": [OTHER | {"model": "other"}]}
    (tmp_path / "capacity.json").write_text(json.dumps({"capacity": before}))
    Attachment(tmp_path, dict(FACTS)).begin({MEASUREMENT: "default"})
    written = json.loads((tmp_path / "capacity.json").read_text())["capacity"]
    assert [path["model"] for path in written["paths"]] == ["other"]
    assert written["payloads"]["models"].keys() == {"m", "other"}
