import json
from typing import Any

import pytest

from report.__main__ import build, main

DIRECT, GATEWAY = "simple_nn@onnx.direct", "simple_nn@onnx.gateway"


def measured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["phase"] == "measure"]


def one_changed(**fields: Any) -> Any:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        measured(rows)[5].update(fields)
        return rows

    return change


def all_changed(**fields: Any) -> Any:
    return lambda rows: [row | fields for row in rows]


def test_the_stored_run_is_valid(stored: Any) -> None:
    assert build(stored.folder).reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_changed(ok=False, code="UNAVAILABLE"), "1 of 1,025 requests failed (UNAVAILABLE 1)"),
        (one_changed(wrong=True), "1 of 1,025 answers are wrong"),
        (lambda rows: measured(rows)[:999], "999 requests, 1,000 are needed"),
        (one_changed(version=2), "more than one artefact or engine answered"),
        (one_changed(sha256="0" * 64), "more than one artefact or engine answered"),
        (one_changed(engine_version="9"), "more than one artefact or engine answered"),
    ],
)
def test_one_bad_row_is_enough_and_names_its_path(stored: Any, change: Any, reason: str) -> None:
    stored.change_rows(DIRECT, change)
    first = build(stored.folder).reasons[0]
    assert first.startswith(f"simple_nn@onnx direct: {reason}")


def test_a_wrong_answer_during_the_warm_up_counts(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda rows: [rows[0] | {"wrong": True}, *rows[1:]])
    assert build(stored.folder).reasons == ("simple_nn@onnx direct: 1 answers of the warm-up are wrong",)


def test_answers_that_do_not_name_their_artefact_are_refused(stored: Any) -> None:
    for block in (DIRECT, GATEWAY):
        stored.change_rows(block, all_changed(sha256=""))
    reasons = build(stored.folder).reasons
    assert len(reasons) == 2
    assert all("do not say fully who made them" in reason for reason in reasons)


def test_a_path_is_the_same_server_direct_and_through_the_gateway(stored: Any) -> None:
    stored.change_rows(GATEWAY, all_changed(version=2))
    (reason,) = build(stored.folder).reasons
    assert reason.startswith("simple_nn@onnx: different servers answered: onnxruntime")


def test_an_expected_block_without_rows_is_missed(stored: Any) -> None:
    (stored.folder / f"rows/{GATEWAY}.parquet").unlink()
    assert build(stored.folder).reasons == ("simple_nn@onnx gateway: there are no rows of it",)


def test_an_empty_block_is_no_crash(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda _: [])
    assert build(stored.folder).reasons == ("simple_nn@onnx direct: 0 requests, 1,000 are needed",)
    assert main([str(stored.folder)]) == 1


def test_an_interrupted_run_is_not_valid(stored: Any) -> None:
    stored.change_facts(complete=False)
    assert build(stored.folder).reasons == ("the run did not end by itself: it was interrupted or failed",)


def test_a_run_of_nothing_is_not_valid(stored: Any) -> None:
    stored.change_facts(expected=[])
    assert build(stored.folder).reasons == ("the run measured nothing",)


def test_a_path_with_wrong_answers_has_no_latency(stored: Any) -> None:
    stored.change_rows(DIRECT, one_changed(wrong=True))
    row = next(row for row in build(stored.folder).rows if (row.stack, row.via) == ("onnx", "direct"))
    assert (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms) == (None, None, None, None)


def test_failed_requests_do_not_improve_the_percentiles(stored: Any) -> None:
    before = {row.name: row.p50_ms for row in build(stored.folder).rows}
    fast_failure = {"ok": False, "code": "UNAVAILABLE", "service_us": 1.0, "engine": "", "version": 0, "sha256": ""}
    stored.change_rows(DIRECT, lambda rows: rows + [rows[-1] | fast_failure] * 900)
    row = next(row for row in build(stored.folder).rows if (row.stack, row.via) == ("onnx", "direct"))
    assert row.errors == 900
    assert row.p50_ms == before[row.name]


def test_an_invalid_run_says_why_everywhere_and_ends_with_1(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stored.change_rows(DIRECT, one_changed(ok=False, code="INTERNAL"))
    assert main([str(stored.folder)]) == 1
    reason = "simple_nn@onnx direct: 1 of 1,025 requests failed (INTERNAL 1)"
    assert f"not valid: {reason}" in capsys.readouterr().out
    summary = json.loads((stored.folder / "summary.json").read_text())
    assert (summary["valid"], summary["reasons"]) == (False, [reason])
    assert reason in (stored.folder / "report.html").read_text()
