from pathlib import Path

from pyarrow import parquet

from loadtest.plan import Block, ServingPath
from loadtest.recorder import SCHEMA, Recorder, Sample

BLOCK = Block(ServingPath("simple_nn", "onnx"), "gateway")
WARM = Sample(100, 812.5, ok=True, code="OK", wrong=False, rows=1, version=3, sha256="ab", engine="e", gateway_us=7)
FAILED = Sample(200, 90.0, ok=False, code="UNAVAILABLE", wrong=False, rows=1)


def test_rows_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    recorder = Recorder(BLOCK)
    recorder.samples += [WARM, FAILED]
    recorder.measure_from_ns = 200
    path = recorder.write(tmp_path / "run1")
    assert path == tmp_path / "run1/rows/simple_nn@onnx.gateway.parquet"
    table = parquet.read_table(path)
    assert table.schema.equals(SCHEMA)
    warm, failed = table.to_pylist()
    assert warm == {
        "run": "run1",
        "path": "simple_nn@onnx",
        "model": "simple_nn",
        "stack": "onnx",
        "via": "gateway",
        "phase": "warmup",
        "sent_ns": 100,
        "scheduled_ns": None,
        "service_us": 812.5,
        "ok": True,
        "code": "OK",
        "wrong": False,
        "rows": 1,
        "version": 3,
        "sha256": "ab",
        "engine": "e",
        "engine_version": "",
        "gateway_us": 7,
        "backend_us": None,
    }
    assert (failed["phase"], failed["ok"], failed["code"]) == ("measure", False, "UNAVAILABLE")


def test_everything_is_warm_up_until_the_measuring_starts() -> None:
    recorder = Recorder(BLOCK)
    recorder.samples += [WARM, FAILED]
    assert recorder.measured() == []


def test_a_block_without_a_request_still_has_its_table(tmp_path: Path) -> None:
    assert parquet.read_table(Recorder(BLOCK).write(tmp_path)).num_rows == 0
