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

from report.summary import Summary, build

STORED = Path(__file__).parents[2] / "data/run"
Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


OWNER = ("round", "model", "stack", "via", "side")


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return what run.json counts of a measurement's rows."""
    measured = [row for row in rows if row["phase"] == "measure"]
    return {
        "requests": len(measured),
        "errors": sum(not row["ok"] for row in measured),
        "wrong_answers": sum(row["wrong"] for row in measured),
        "warmup_requests": len(rows) - len(measured),
    }


@dataclass(frozen=True)
class StoredRun:
    """A copy that a test may change."""

    folder: Path

    def files(self, measurement: str) -> list[Path]:
        """Return the files of MODEL@STACK.via, in the order of the rounds."""
        return sorted((self.folder / "rows").glob(f"r*-{measurement}.parquet"))

    def change_rows(self, measurement: str, change: Change, *, only_round: int | None = None) -> None:
        """Change a measurement's rows, in every round or in one, as if they had been recorded so."""
        found = {}
        for path in self.files(measurement) if only_round is None else [self.files(measurement)[only_round]]:
            self.damage(path, change)
            found[f"rows/{path.name}"] = counts(parquet.read_table(path).to_pylist())
        self.change_facts(measurements=[each | found.get(each["rows"], {}) for each in self.facts()["measurements"]])

    def damage(self, path: Path, change: Change) -> None:
        """Change a file's rows behind run.json's back."""
        table = parquet.read_table(path)
        parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)

    def record_again(self) -> None:
        """Let run.json tell of the files that are there, and their rows say whose they are."""
        facts = self.facts()
        known = {tuple(each.get(name, "") for name in OWNER): each for each in facts["measurements"]}
        measurements = []
        for path in sorted((self.folder / "rows").glob("*.parquet")):
            number, _, name = path.stem.removeprefix("r").partition("-")
            path_name, _, via = name.partition("~")[0].rpartition(".")
            owner = (int(number), *path_name.split("@"), via, name.partition("~")[2])
            if owner not in known:
                continue
            table = parquet.read_table(path)
            values = dict(zip(OWNER, owner, strict=True)) | {"run": facts["run"]}
            for column, value in values.items():
                at = table.schema.get_field_index(column)
                constant = pa.array([value] * table.num_rows, table.schema.field(at).type)
                table = table.set_column(at, table.schema.field(at), constant)
            parquet.write_table(table, path)
            measurements.append(known[owner] | {"rows": f"rows/{path.name}"} | counts(table.to_pylist()))
        self.change_facts(measurements=measurements)

    def close_loop(self) -> None:
        """Make it a run in which callers waited for their replies: there is no schedule."""
        self.change_facts(load_model="closed loop")
        for path in sorted((self.folder / "rows").glob("*.parquet")):
            self.damage(path, lambda rows: [row | {"scheduled_ns": None, "response_us": None} for row in rows])

    def change_facts(self, **facts: Any) -> None:
        path = self.folder / "run.json"
        path.write_text(json.dumps(self.facts() | facts))

    def write(self, name: str, content: Any) -> None:
        """Write what another command would add to the run."""
        (self.folder / f"{name}.json").write_text(json.dumps({name: content}))

    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text()))


@pytest.fixture(scope="session")
def summary() -> Summary:
    """The stored run's, worked out once: for tests that change nothing."""
    return build(STORED)


@pytest.fixture
def stored(tmp_path: Path) -> StoredRun:
    folder = tmp_path / "run"
    shutil.copytree(STORED, folder)
    return StoredRun(folder)
