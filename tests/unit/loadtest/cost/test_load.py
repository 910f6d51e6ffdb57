"""What is read from the run that loaded a scorecard's paths."""

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from loadtest.cost.load import measurements


def test_wrong_answers_in_the_ramp_up_alone_count(tmp_path: Path) -> None:
    rows = {
        "phase": ["warmup", "measure"],
        "engine": ["onnxruntime"] * 2,
        "engine_version": ["1.31.1"] * 2,
        "sent_ns": [0, 10**9],
        "service_us": [1000.0, 1000.0],
    }
    parquet.write_table(pa.table(rows), tmp_path / "rows.parquet")
    counted = {"errors": 0, "wrong_answers": 0, "warmup_wrong_answers": 1}
    facts = {
        "fairness": {"paths": {"m@onnx.direct": {"settings": {"value": "default"}, "artifact": {"value": "ab"}}}},
        "measurements": [{"model": "m", "stack": "onnx", "via": "direct", "rows": "rows.parquet", **counted}],
    }

    (found,) = measurements(tmp_path, facts, {}, ())

    assert (found.requests, found.bad, found.wrong_answers) == (1, 1, 1)
