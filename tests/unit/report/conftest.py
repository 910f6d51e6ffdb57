"""A stored run (tests/data/run, made by tests/synthetic_run.py), and ways to spoil a copy of it."""

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

    def files(self, block: str) -> list[Path]:
        """Give the files of MODEL@STACK.via, in the order of the rounds."""
        return sorted((self.folder / "rows").glob(f"r*-{block}.parquet"))

    def change_rows(self, block: str, change: Change, *, only_round: int | None = None) -> None:
        """Change a block's rows, in every round or in one."""
        for path in self.files(block) if only_round is None else [self.files(block)[only_round]]:
            table = parquet.read_table(path)
            parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)

    def change_facts(self, **facts: Any) -> None:
        path = self.folder / "run.json"
        path.write_text(json.dumps(self.facts() | facts))

    def write(self, name: str, content: Any) -> None:
        """Write what another command would add to the run."""
        (self.folder / f"{name}.json").write_text(json.dumps({name: content}))

    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text()))


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    folder = tmp_path / "run"
    shutil.copytree(STORED, folder)
    return StoredRun(folder)
