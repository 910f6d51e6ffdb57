from pathlib import Path

from pyarrow import parquet

from loadtest.plan import Measurement, ServingPath, Turn
from loadtest.recorder import SCHEMA, Recorder, Sample, merge, write

TURN = Turn(4, Measurement(ServingPath("simple_nn", "onnx"), "gateway"))
WARM = Sample(
    100,
    812.5,
    ok=True,
    code="OK",
    wrong=False,
    rows=1,
    version=3,
    sha256="ab",
    engine="e",
    gateway_us=7,
    request_bytes=24,
)
FAILED = Sample(200, 90.0, ok=False, code="UNAVAILABLE", wrong=False, rows=1)


def recorder(*samples: Sample, measure_from_ns: int | None = None) -> Recorder:
    made = Recorder(TURN, measure_from_ns)
    made.samples += samples
    return made


def test_rows_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    table = recorder(WARM, FAILED, measure_from_ns=200).table("run1")
    path = write(table, tmp_path / "run1", TURN)
    assert path == tmp_path / "run1/rows/r04-simple_nn@onnx.gateway.parquet"
    table = parquet.read_table(path)
    assert table.schema.equals(SCHEMA)
    warm, failed = table.to_pylist()
    assert warm == {
        "run": "run1",
        "round": 4,
        "path": "simple_nn@onnx",
        "model": "simple_nn",
        "stack": "onnx",
        "via": "gateway",
        "side": "",
        "phase": "warmup",
        "sent_ns": 100,
        "scheduled_ns": None,
        "service_us": 812.5,
        "response_us": None,
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
        "queue_us": None,
        "request_bytes": 24,
        "reply_bytes": None,
    }
    assert (failed["phase"], failed["ok"], failed["code"]) == ("measure", False, "UNAVAILABLE")


def test_the_response_time_of_a_late_request_counts_from_its_schedule() -> None:
    late = WARM._replace(sent_ns=1_500_000).scheduled(500_000)
    assert (late.scheduled_ns, late.service_us, late.response_us) == (500_000, 812.5, 1812.5)


def test_a_request_belongs_to_the_phase_in_which_it_was_due_however_late_it_left() -> None:
    made = recorder(measure_from_ns=200)
    assert made.phase(WARM._replace(sent_ns=300).scheduled(199)) == "warmup"
    assert made.phase(WARM._replace(sent_ns=300).scheduled(200)) == "measure"


def test_everything_is_warm_up_until_the_measuring_starts() -> None:
    assert set(recorder(WARM, FAILED).table("run1")["phase"].to_pylist()) == {"warmup"}


def test_the_rows_of_two_workers_are_merged_by_time() -> None:
    tables = [recorder(WARM, WARM._replace(sent_ns=300)).table("run1"), recorder(FAILED).table("run1")]
    assert merge(tables)["sent_ns"].to_pylist() == [100, 200, 300]


def test_a_block_without_a_request_still_has_its_table(tmp_path: Path) -> None:
    assert parquet.read_table(write(recorder().table("run1"), tmp_path, TURN)).num_rows == 0
