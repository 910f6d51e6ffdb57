"""What becomes of the capacities that a run has already."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.attachment import Attachment
from loadtest.plan import Measurement, ServingPath
from servepath.settings import SettingsError

FACTS = {"slo_p99_ms": 5.0, "git_commit": "abc"}
MINE, OTHER = ({"model": "m", "stack": stack, "via": "direct"} for stack in ("onnx", "tfserving"))
MEASUREMENT = Measurement(ServingPath("m", "onnx"), "direct")


def begun(folder: Path, before: Any) -> list[dict[str, Any]]:
    (folder / "capacity.json").write_text(json.dumps({"capacity": before}))
    attachment = Attachment(folder, FACTS)
    attachment.begin([MEASUREMENT])
    written = json.loads((folder / "capacity.json").read_text())["capacity"]
    assert (written["paths"], written["complete"]) == (attachment.paths, False)
    return attachment.paths


def test_what_is_searched_again_is_forgotten_and_what_is_not_stays(tmp_path: Path) -> None:
    assert begun(tmp_path, FACTS | {"paths": [MINE, OTHER]}) == [OTHER]


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
