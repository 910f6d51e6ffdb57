import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from report import older
from report.__main__ import main

pytestmark = pytest.mark.slow

PREVIOUS = Path(__file__).parents[2] / "data/run-schema-2/run.json"


def test_a_run_of_the_previous_schema_gives_the_same_summary(stored: Any) -> None:
    shutil.copyfile(PREVIOUS, stored.folder / "run.json")
    assert main([str(stored.folder)]) == 0
    expected = json.loads((stored.folder / "expected.json").read_text())
    assert json.loads((stored.folder / "summary.json").read_text()) == expected


def test_the_recorded_run_is_of_the_previous_schema_indeed() -> None:
    facts = json.loads(PREVIOUS.read_text())
    assert facts["schema"] == older.PREVIOUS["run"]
    assert "measurements" not in facts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run", []),
        ("run", {"schema": 0, "blocks": []}),
        ("capacity", {"schema": 1, "blocks": []}),
        ("run", {"blocks": []}),
    ],
)
def test_anything_else_is_left_as_it_is(name: str, content: Any) -> None:
    assert older.upgrade(name, content) == content
