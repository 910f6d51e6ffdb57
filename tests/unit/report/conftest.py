"""A recorded run (tests/data/run), and ways to spoil a copy of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

STORED = Path(__file__).parents[2] / "data/run"
Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@dataclass(frozen=True)
class StoredRun:
    """A copy that a test may change."""

    folder: Path

    def change_rows(self, block: str, change: Change) -> None:
        path = self.folder / f"rows/{block}.parquet"
        table = parquet.read_table(path)
        parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)

    def change_facts(self, **facts: Any) -> None:
        path = self.folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    folder = tmp_path / "run"
    shutil.copytree(STORED, folder)
    return StoredRun(folder)
