"""What is published as JSON Schema is what is written, and what is written otherwise is found."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from pyarrow import parquet

from loadtest import recorder, run
from report import rows, schema
from report.rows import write_json
from report.summary import Summary, build, to_dict

NAMES = ["capacity", "crosscheck", "recommendation", "row", "run", "scorecard", "summary"]


def written(summary: Summary) -> dict[str, Any]:
    """Return what a reader of summary.json finds."""
    return dict(json.loads(write_json(to_dict(summary))))


def test_every_published_schema_is_one() -> None:
    assert sorted(path.name.partition(".")[0] for path in schema.SCHEMAS.iterdir()) == NAMES
    for name in NAMES:
        Draft202012Validator.check_schema(schema.validator(name).schema)


def test_the_summary_obeys_its_schema(summary: Summary) -> None:
    assert [error.message for error in schema.validator("summary").iter_errors(written(summary))] == []


def test_the_summary_of_a_run_that_is_not_valid_does_too(stored: Any) -> None:
    stored.change_rows("simple_nn@onnx.direct", lambda found: [row | {"wrong": True} for row in found])
    stored.close_loop()
    for path in stored.files("null@null.direct"):
        path.unlink()
    found = written(build(stored.folder))
    assert [error.message for error in schema.validator("summary").iter_errors(found)] == []


def test_the_summary_has_what_the_proof_of_a_path_saw_both_ways_and_obeys_its_schema(stored: Any) -> None:
    proof = {"difference": 1e-07, "refused": "", "unbatched": "in a batch of 2 rows, another"}
    stored.change_facts(proofs={"simple_nn@onnx.gateway": proof})
    found = written(build(stored.folder))
    assert [error.message for error in schema.validator("summary").iter_errors(found)] == []
    assert [path.get("proof") for path in found["paths"]] == [None, None, proof, proof]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("requests", "many"), ("p50_ms", -1), ("load_model", "half open"), ("new", 1), ("parts", {})]
)
def test_a_field_of_another_kind_is_found(summary: Summary, name: str, value: object) -> None:
    changed = written(summary)
    changed["paths"][0][name] = value
    with pytest.raises(ValidationError):
        schema.validator("summary").validate(changed)


def test_a_missing_field_is_found(summary: Summary) -> None:
    changed = written(summary)
    del changed["verdicts"][0]["p_holm"]
    with pytest.raises(ValidationError, match="p_holm"):
        schema.validator("summary").validate(changed)


def test_rows_obey_their_schema_and_have_every_column_of_it(stored: Any) -> None:
    published = schema.validator("row").schema
    # Runs of before have not all columns.
    assert {*published["required"], *rows.LATER} == set(published["properties"]) == set(recorder.SCHEMA.names)
    for measurement in ("simple_nn@onnx.gateway", "null@null.direct"):
        for row in parquet.read_table(stored.files(measurement)[0]).to_pylist():
            schema.validator("row").validate(row)


def test_the_report_reads_what_the_load_test_writes() -> None:
    assert run.SCHEMA == schema.RUN_SCHEMA
    assert {*rows.COLUMNS, *rows.LATER} <= set(recorder.SCHEMA.names)


def test_a_long_complaint_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(["x" * 10_000]))
    with pytest.raises(schema.ReportError) as caught:
        schema.read(path, "run", missing="")
    assert len(str(caught.value)) < len(str(path)) + 250
