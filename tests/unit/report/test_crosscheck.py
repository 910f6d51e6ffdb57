"""Agreement between instruments: each bound is met at its edge, and broken just beyond it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from report.__main__ import main
from report.crosscheck import Figure, close, median_interval, overlap

WAYS = ({"model": "m", "stack": "onnx", "via": "direct"}, {"model": "m", "stack": "onnx", "via": "gateway"})
NO_OP = {"model": "null", "stack": "null", "via": "direct"}
# Of each instrument's measurements: p50 and p99 in microseconds.
ALIKE = {"poisson": (500, 1500), "loadgen": (450, 1500), "even": (420, 1400), "h2load": (400, 1400)}


def block_of(p50: float, p99: float, count: int) -> pa.Table:
    """Return a measurement whose 2 % slowest take `p99` and whose others take `p50`.

    What came before is no part of it.
    """
    times = [9e6, *np.where(np.arange(count) < 0.98 * count, p50, p99)]
    phases = ["warmup", *["measure"] * count]
    return pa.table(
        {"phase": phases, "ok": [True] * (count + 1), "service_us": times, "response_us": times},
    )


class Folder:
    """What `make crosscheck` leaves behind, with times as told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, times: Mapping[str, tuple[float, float]], rounds: int = 5, count: int = 700, **more: Any) -> None:
        measurements = []
        (self.path / "rows").mkdir(exist_ok=True)
        for number in range(rounds):
            for way in (*WAYS, NO_OP):
                for name, (p50, p99) in times.items():
                    # A little more in each round, so that intervals have a width.
                    rows = f"rows/r{number}-{way['via']}-{way['model']}-{name}.parquet"
                    parquet.write_table(block_of(p50, p99 + 10 * number, count), self.path / rows)
                    counts = {"requests": count, "errors": 0, "wrong_answers": 0, "attempts": 1}
                    measurements.append(way | counts | {"round": number, "instrument": name, "rows": rows})
        facts = {
            "schema": 2,
            "started": "2026-11-23T12:00:00+00:00",
            "git_commit": "ab" * 20,
            "host": {"cpu": "a processor", "cores": 2},
            "rate_rps": 200.0,
            "rounds": rounds,
            "seed": 1,
            "instruments": {name: {"about": name, "version": "1"} for name in ALIKE},
            "expected": list(WAYS),
            "measurements": measurements,
            "complete": True,
        }
        (self.path / "crosscheck.json").write_text(json.dumps(facts | more))

    def judge(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, Any]:
        code = main(["crosscheck", str(self.path)])
        return code, capsys.readouterr().out, json.loads((self.path / "summary.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_instruments_that_agree_end_with_0(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ALIKE)
    code, printed, summary = folder.judge(capsys)
    assert (code, summary["agrees"], [way["agrees"] for way in summary["paths"]]) == (0, True, [True, True])
    assert "our load test agrees with both" in printed
    assert summary["paths"][0]["instruments"]["loadgen"] == {
        "time": "response_us",
        "p50_us": 450,
        "p99_us": 1520,
        "p99_low_us": 1500,
        "p99_high_us": 1540,
    }


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"poisson": (601, 1500)}, "response p50, LoadGen: disagree, +151 us apart, at most 150 us allowed"),
        ({"poisson": (500, 1541)}, "response p99, LoadGen: disagree, 1541..1581 us and 1500..1540 us"),
        ({"even": (551, 1400)}, "service p50, h2load: disagree, +151 us apart, at most 150 us allowed"),
    ],
)
def test_each_bound_that_is_broken_ends_with_3_and_is_named(
    folder: Folder, capsys: pytest.CaptureFixture[str], changed: dict[str, tuple[float, float]], named: str
) -> None:
    folder.write(ALIKE | changed)
    code, printed, summary = folder.judge(capsys)
    assert (code, summary["paths"][0]["agrees"]) == (3, False)
    assert f"m@onnx direct: {named}" in printed


@pytest.mark.parametrize(("ours", "agrees"), [(2200, True), (2201, False), (1800, True), (1799, False)])
def test_a_slow_paths_p50_may_differ_by_its_share(ours: float, *, agrees: bool) -> None:
    assert close("p50", ours, 2000, 0.10).agrees is agrees


@pytest.mark.parametrize(("low", "agrees"), [(20, True), (21, False)])
def test_intervals_that_touch_overlap(low: float, *, agrees: bool) -> None:
    one, other = Figure(1, 15, 10, 20), Figure(1, low, low, 30)
    assert (overlap("p99", one, other).agrees, overlap("p99", other, one).agrees) == (agrees, agrees)


@pytest.mark.parametrize(
    ("count", "bounds"), [(4, (None, None)), (5, (1, 5)), (7, (1, 7)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15))]
)
def test_the_interval_of_a_median_is_the_narrowest_pair_of_order_statistics_that_covers_enough(
    count: int, bounds: tuple[float | None, float | None]
) -> None:
    assert median_interval(range(1, count + 1)) == bounds


@pytest.mark.parametrize(("rounds", "count"), [(4, 700), (5, 600)])
def test_too_few_rounds_or_requests_show_no_agreement(
    folder: Folder, capsys: pytest.CaptureFixture[str], rounds: int, count: int
) -> None:
    folder.write(ALIKE, rounds, count)
    code, printed, summary = folder.judge(capsys)
    assert (code, summary["paths"][0]["agrees"]) == (3, None)
    assert "response p99, LoadGen: is inconclusive, too few requests or rounds" in printed


@pytest.mark.parametrize(("count", "what"), [("errors", "2 unanswered"), ("wrong_answers", "2 wrong answers")])
def test_a_path_with_a_wrong_or_missing_answer_has_no_times_to_compare(
    folder: Folder, capsys: pytest.CaptureFixture[str], count: str, what: str
) -> None:
    folder.write(ALIKE)
    facts = json.loads((folder.path / "crosscheck.json").read_text())
    facts["measurements"][1][count] = 2
    (folder.path / "crosscheck.json").write_text(json.dumps(facts))
    code, printed, summary = folder.judge(capsys)
    assert (code, [way["agrees"] for way in summary["paths"]]) == (3, [None, True])
    assert f"m@onnx direct: {what} (loadgen): a path with failures is not compared" in printed


def test_blocks_that_were_loaded_again_are_counted(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ALIKE)
    assert "loaded again" not in folder.judge(capsys)[1]
    facts = json.loads((folder.path / "crosscheck.json").read_text())
    facts["measurements"][1]["attempts"] = 2
    (folder.path / "crosscheck.json").write_text(json.dumps(facts))
    code, printed, summary = folder.judge(capsys)
    assert (code, summary["loaded_again"]) == (0, 1)
    assert "1 of 60 measurements failed first and were repeated" in printed


def test_a_cross_check_that_was_cut_short_shows_no_agreement(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write(ALIKE, complete=False)
    code, printed, _ = folder.judge(capsys)
    assert code == 3
    assert "is incomplete" in printed


def test_the_no_op_server_is_shown_and_not_judged(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ALIKE)
    facts = json.loads((folder.path / "crosscheck.json").read_text())
    for measurement in facts["measurements"]:
        if measurement["model"] == "null" and measurement["instrument"] == "poisson":
            parquet.write_table(block_of(9000, 9900, 700), folder.path / measurement["rows"])
    code, printed, summary = folder.judge(capsys)
    assert code == 0
    assert "not judged" in printed
    assert summary["null_endpoint"]["instruments"]["poisson"]["p50_us"] == 9000


def test_what_is_missing_or_broken_is_named_and_ends_with_1(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crosscheck", str(folder.path)]) == 1
    assert "crosscheck.json is missing: nothing there; run: make crosscheck" in capsys.readouterr().err
    folder.write(ALIKE, rate_rps=0)
    assert main(["crosscheck", str(folder.path)]) == 1
    assert "$.rate_rps" in capsys.readouterr().err
    folder.write(ALIKE)
    next((folder.path / "rows").iterdir()).write_text("no table")
    assert main(["crosscheck", str(folder.path)]) == 1
    assert "is not a table of requests" in capsys.readouterr().err
