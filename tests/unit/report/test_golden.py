import json
import math
from typing import Any

import pytest
from pyarrow import parquet

from report.__main__ import main


def test_stored_rows_give_exactly_the_stored_summary(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads((stored.folder / "expected.json").read_text())
    assert main([str(stored.folder)]) == 0
    assert json.loads((stored.folder / "summary.json").read_text()) == expected
    assert "valid: every path answered, and rightly" in capsys.readouterr().out


def test_the_stored_summary_is_what_plain_sorting_gives(stored: Any) -> None:
    expected = json.loads((stored.folder / "expected.json").read_text())
    assert [(row["stack"], row["via"]) for row in expected["paths"]] == [
        ("tfserving", "direct"),
        ("tfserving", "gateway"),
        ("onnx", "direct"),
        ("onnx", "gateway"),
    ]
    for row in expected["paths"]:
        rows = parquet.read_table(
            stored.folder / f"rows/{row['model']}@{row['stack']}.{row['via']}.parquet"
        ).to_pylist()
        service_us = sorted(found["service_us"] for found in rows if found["phase"] == "measure")
        assert row["requests"] == len(service_us) == len(rows) - row["warmup_requests"]
        for name, part in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
            assert row[name] == round(service_us[math.ceil(part * len(service_us)) - 1] / 1000, 4)
        assert row["p999_ms"] is None


def test_the_terminal_shows_engine_version_and_missing_percentiles(
    stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(stored.folder)])
    lines = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    line = next(line for line in lines if line[:1] == ["keras_dense@tfserving"])
    assert line[1:5] == ["embedded", "(tensorflow", "2.21.0)", "direct"]
    assert line[-2:] == ["-", "-"]


def test_without_a_run_there_is_one_clear_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == f"report: {tmp_path}/run.json is missing: no load test was recorded there; run: make loadtest\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", b"{", "run.json is not JSON"),
        ("run.json", b"{}", "run.json has no 'run'"),
        ("rows/simple_nn@onnx.direct.parquet", b"PAR1", "simple_nn@onnx.direct.parquet is not a table of requests"),
    ],
)
def test_a_damaged_file_is_named(
    stored: Any, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (stored.folder / name).write_bytes(content)
    assert main([str(stored.folder)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, None])
def test_a_service_time_that_is_none_is_refused(stored: Any, capsys: pytest.CaptureFixture[str], value: Any) -> None:
    stored.change_rows("simple_nn@onnx.direct", lambda rows: [*rows[:-1], rows[-1] | {"service_us": value}])
    assert main([str(stored.folder)]) == 1
    assert "simple_nn@onnx.direct.parquet holds a service time that is none" in capsys.readouterr().err
