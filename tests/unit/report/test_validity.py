import json
import threading
from pathlib import Path
from typing import Any

import pytest

from report.__main__ import main
from report.summary import build
from studies.injected_delay.injected import Delayed
from tests.engines import GatedEngine
from tests.synthetic_run import write_run

pytestmark = pytest.mark.slow

DIRECT, GATEWAY, NO_OP = "simple_nn@onnx.direct", "simple_nn@onnx.gateway", "null@null.direct"


def measured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["phase"] == "measure"]


def one_changed(**fields: Any) -> Any:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        measured(rows)[5].update(fields)
        return rows

    return change


def all_changed(**fields: Any) -> Any:
    return lambda rows: [row | fields for row in rows]


def late(count: int, late_us: int) -> Any:
    """Send the first `count` measured requests of a measurement later."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in measured(rows)[:count]:
            row["sent_ns"] = row["scheduled_ns"] + late_us * 1000
        return rows

    return change


def row_of(stored: Any, via: str = "direct") -> Any:
    return next(row for row in build(stored.folder).rows if (row.stack, row.via) == ("onnx", via))


def test_the_stored_run_is_valid(stored: Any) -> None:
    assert build(stored.folder).reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_changed(ok=False, code="UNAVAILABLE"), "1 of 1,320 requests failed (UNAVAILABLE 1)"),
        (one_changed(wrong=True), "1 of 1,320 responses are incorrect"),
        (one_changed(version=2), "more than one artifact or engine answered"),
        (one_changed(sha256="0" * 64), "more than one artifact or engine answered"),
        (one_changed(engine_version="9"), "more than one artifact or engine answered"),
    ],
)
def test_one_bad_row_in_one_round_is_enough_and_names_its_path(stored: Any, change: Any, reason: str) -> None:
    stored.change_rows(DIRECT, change, only_round=4)
    summary = build(stored.folder)
    assert summary.reasons[0].startswith(f"simple_nn@onnx direct: {reason}")
    assert summary.verdicts == ()


def test_999_requests_over_all_rounds_are_too_few_and_1000_are_enough(stored: Any) -> None:
    for number in range(12):
        stored.change_rows(DIRECT, lambda rows: measured(rows)[:84], only_round=number)
    assert build(stored.folder).reasons == ()
    stored.change_rows(DIRECT, lambda rows: rows[:75], only_round=0)
    assert build(stored.folder).reasons == ("simple_nn@onnx direct: 999 requests, 1,000 are needed",)


def test_a_wrong_answer_during_the_warm_up_counts(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda rows: [rows[0] | {"wrong": True}, *rows[1:]], only_round=0)
    assert build(stored.folder).reasons == ("simple_nn@onnx direct: 1 responses of the warm-up are incorrect",)


def test_one_late_request_in_a_hundred_is_allowed_and_more_are_not(stored: Any) -> None:
    stored.change_rows(DIRECT, late(13, 1001), only_round=0)
    assert build(stored.folder).reasons == ()
    stored.change_rows(DIRECT, late(14, 1001), only_round=0)
    reason = "simple_nn@onnx direct: the generator sent 1.1% of the requests more than 1 ms late, 1% is the most"
    assert build(stored.folder).reasons == (reason,)


def test_a_millisecond_is_not_yet_late(stored: Any) -> None:
    stored.change_rows(DIRECT, late(110, 1000))
    assert build(stored.folder).reasons == ()


def test_lateness_on_the_no_op_server_is_the_instruments_too(stored: Any) -> None:
    stored.change_rows(NO_OP, late(110, 5000), only_round=0)
    (reason,) = build(stored.folder).reasons
    assert reason.startswith("null@null direct: the generator sent 8.3% of the requests more than 1 ms late")


def test_right_answers_that_were_late_end_with_3_and_a_wrong_one_beside_them_with_1(
    stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.change_rows(DIRECT, late(110, 5000))
    assert main([str(stored.folder)]) == 3
    said = capsys.readouterr().out
    assert "not valid: simple_nn@onnx direct: the generator sent 100.0% of the requests more than 1 ms late" in said
    assert "no verdict, but every path returned correct responses" in said
    summary = json.loads((stored.folder / "summary.json").read_text())
    assert (summary["valid"], summary["all_responses_correct"], summary["verdicts"]) == (False, True, [])
    stored.change_rows(GATEWAY, one_changed(wrong=True), only_round=0)
    assert main([str(stored.folder)]) == 1
    assert "every path answered" not in capsys.readouterr().out


@pytest.mark.parametrize(("share", "reasons"), [(0.90, 0), (0.91, 1)])
def test_a_generator_that_needs_more_than_nine_tenths_of_a_core_is_refused(
    stored: Any, share: float, reasons: int
) -> None:
    measurements = [
        measurement
        | ({"generator_cpu": share} if (measurement["stack"], measurement["via"]) == ("onnx", "direct") else {})
        for measurement in stored.facts()["measurements"]
    ]
    stored.change_facts(measurements=measurements)
    found = build(stored.folder).reasons
    assert found == ("simple_nn@onnx direct: the generator used 91% of a core, 90% is the most",)[:reasons]


def test_answers_that_do_not_name_their_artifact_are_refused(stored: Any) -> None:
    for measurement in (DIRECT, GATEWAY):
        stored.change_rows(measurement, all_changed(sha256=""))
    reasons = build(stored.folder).reasons
    assert len(reasons) == 2
    assert all("do not fully identify their server" in reason for reason in reasons)


def test_a_path_is_the_same_server_direct_and_through_the_gateway(stored: Any) -> None:
    stored.change_rows(GATEWAY, all_changed(version=2))
    (reason,) = build(stored.folder).reasons
    assert reason.startswith("simple_nn@onnx: different servers answered: onnxruntime")


def test_an_expected_block_without_rows_is_missed_and_its_round_does_not_count(stored: Any) -> None:
    stored.files(GATEWAY)[5].unlink()
    summary = build(stored.folder)
    assert summary.reasons == ("simple_nn@onnx gateway: rows are missing in round 5",)
    assert len(summary.rounds) == 11


def test_a_path_that_never_ran_is_missed_and_the_others_are_shown(stored: Any) -> None:
    for path in stored.files(GATEWAY):
        path.unlink()
    summary = build(stored.folder)
    assert summary.reasons[0] == "simple_nn@onnx gateway: rows are missing in 12 rounds, the first of them 0"
    assert [row.requests for row in summary.rows] == [1320, 1320, 1320]


def test_an_empty_block_is_no_crash(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda _: [])
    assert build(stored.folder).reasons == ("simple_nn@onnx direct: 0 requests, 1,000 are needed",)
    assert main([str(stored.folder)]) == 1


def test_an_interrupted_run_shows_the_rounds_that_ended_and_gives_no_verdict(stored: Any) -> None:
    stored.change_facts(complete=False)
    stored.files(GATEWAY)[11].unlink()
    summary = build(stored.folder)
    assert summary.reasons == ("the run is incomplete: it was interrupted or failed (11 of 12 rounds ended)",)
    assert [row.requests for row in summary.rows] == [1210] * 4
    assert summary.rows[0].response_p50_ms is not None
    assert summary.verdicts == ()


def test_a_run_of_nothing_is_not_valid(stored: Any) -> None:
    stored.change_facts(expected=[{"model": "null", "stack": "null", "via": "direct"}])
    assert build(stored.folder).reasons == ("the run measured nothing",)


def test_an_undeclared_must_equal_difference_is_refused_and_a_declared_one_is_not(stored: Any) -> None:
    fairness = stored.facts()["fairness"]
    fairness["paths"][DIRECT]["threads"]["value"] = 2
    stored.change_facts(fairness=fairness)
    (reason,) = build(stored.folder).reasons
    assert reason.startswith("must be equal and differs: threads: 1 (keras_dense@tfserving.direct)")
    assert f"2 ({DIRECT})" in reason
    stored.change_facts(allowed=["threads"])
    assert build(stored.folder).reasons == ()


def test_sides_are_held_against_each_other_and_not_against_another_path(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=11, requests=662, sides={"old": 1.0, "new": 1.2})
    facts = json.loads((folder / "run.json").read_text())
    old, new = (facts["fairness"]["paths"][f"{DIRECT}~{side}"] for side in ("old", "new"))
    old["precision"]["value"] = new["precision"]["value"] = "int8"
    (folder / "run.json").write_text(json.dumps(facts))
    assert build(folder).reasons == ()
    new["threads"]["value"] = 2
    (folder / "run.json").write_text(json.dumps(facts))
    assert build(folder).reasons == (f"must be equal and differs: threads: 1 ({DIRECT}~old), 2 ({DIRECT}~new)",)


def test_a_path_with_wrong_answers_in_one_round_has_no_latency_at_all(stored: Any) -> None:
    stored.change_rows(DIRECT, one_changed(wrong=True), only_round=7)
    row = row_of(stored)
    found = row.to_dict()
    assert {value for name, value in found.items() if name.removeprefix("response_").startswith("p")} == {None}
    assert row.latencies_us == {}


def test_failed_requests_do_not_improve_the_percentiles(stored: Any) -> None:
    before = row_of(stored)
    fast = {"ok": False, "code": "UNAVAILABLE", "service_us": 1.0, "response_us": 1.0, "engine": "", "version": 0}
    stored.change_rows(DIRECT, lambda rows: rows + [rows[-1] | fast] * 90)
    row = row_of(stored)
    assert row.errors == 12 * 90
    assert (row.p50_ms, row.response_p99_ms) == (before.p50_ms, before.response_p99_ms)


def test_an_invalid_run_says_why_everywhere_and_ends_with_1(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stored.change_rows(DIRECT, one_changed(ok=False, code="INTERNAL"), only_round=0)
    assert main([str(stored.folder)]) == 1
    reason = "simple_nn@onnx direct: 1 of 1,320 requests failed (INTERNAL 1)"
    said = capsys.readouterr().out
    assert f"not valid: {reason}" in said
    assert "faster" not in said
    summary = json.loads((stored.folder / "summary.json").read_text())
    assert (summary["valid"], summary["reasons"], summary["verdicts"]) == (False, [reason], [])
    for name in ("report.html", "summary.md"):
        text = (stored.folder / name).read_text()
        assert reason in text
        assert "is faster than" not in text


@pytest.mark.parametrize(("drift_us", "valid"), [(9_990.0, True), (10_010.0, False), (-10_020.0, False)])
def test_a_wall_clock_that_was_set_while_measuring_is_refused(stored: Any, drift_us: float, *, valid: bool) -> None:
    measurements = stored.facts()["measurements"]
    measurements[-1]["clock"]["drift_us"] += drift_us
    stored.change_facts(measurements=measurements)
    reasons = build(stored.folder).reasons
    assert reasons == () if valid else reasons[0].startswith("the wall clock left the measuring clock by 10 ms, 10 ms")


@pytest.mark.parametrize(("step_ns", "said"), [(1_000_000, "1000000"), (None, "unknown")])
def test_a_coarse_clock_is_refused(stored: Any, step_ns: int | None, said: str) -> None:
    stored.change_facts(clock={"smallest_step_ns": step_ns})
    assert build(stored.folder).reasons == (f"the clock is too coarse: its smallest step is {said} ns",)


def test_a_server_with_a_planted_delay_is_refused_where_no_sides_are_compared(stored: Any) -> None:
    engine = Delayed(GatedEngine(threading.Event()), 20).name
    for measurement in (DIRECT, GATEWAY):
        stored.change_rows(measurement, all_changed(engine=engine))
    reason = f"the server has an injected delay, to test the method: {engine}; start the real one"
    assert build(stored.folder).reasons == tuple(f"simple_nn@onnx {via}: {reason}" for via in ("direct", "gateway"))


def test_an_artifact_that_its_server_does_not_name_is_said_and_refuses_nothing(
    stored: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for measurement in (DIRECT, GATEWAY):
        stored.change_rows(measurement, all_changed(sha256="unknown", version=0, engine="theirs"))
    assert build(stored.folder).reasons == ()
    assert main([str(stored.folder)]) == 0
    said = "Provenance unknown: the server of simple_nn@onnx does not say which artifact it serves"
    assert said in " ".join(capsys.readouterr().out.split())
    for name in ("report.html", "summary.md"):
        assert said in (stored.folder / name).read_text()
