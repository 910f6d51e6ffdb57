from typing import Any

import pytest

from report import charts, series
from report.percentiles import nearest_rank
from report.summary import Summary, build


def test_each_path_has_its_colour_its_ways_share_it_and_the_instrument_is_grey(summary: Summary) -> None:
    found = charts.colours(series.series(summary))
    assert found == {
        "keras_dense@tfserving": charts.COLOURS[0],
        "simple_nn@onnx": charts.COLOURS[1],
        "no-op server": charts.GREY,
    }


def test_a_curve_goes_through_the_percentiles_and_ends_where_one_sample_is_slower(summary: Summary) -> None:
    rows = series.rows_of(summary)
    points = [(each["n"], each["v"]) for each in series.curves(rows[:1]) if each["m"] == "response"]
    ordered_us = sorted(rows[0].samples.times("response_us").tolist())
    assert len(points) == series.POINTS
    assert points[0] == (0, pytest.approx(ordered_us[0] / 1e3, rel=1e-3))
    assert points[-1] == (pytest.approx(3.1206, abs=1e-3), pytest.approx(ordered_us[-2] / 1e3, rel=1e-3))
    for nines, value_ms in points:
        rank = nearest_rank(ordered_us, f"{100 * (1 - 10**-nines):.4f}") / 1e3
        assert value_ms == pytest.approx(rank, rel=0.05)


def test_a_pause_of_a_fifth_of_a_second_is_seen_over_time(stored: Any) -> None:
    def pause(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row | {"response_us": 200_000.0} if 50 <= number < 60 else row for number, row in enumerate(rows)]

    stored.change_rows("simple_nn@onnx.direct", pause, only_round=3)
    rows = series.rows_of(build(stored.folder))
    key = next(key for key, row in enumerate(rows) if str(row.name) == "simple_nn@onnx direct")
    slow = [each for each in series.over_time(rows) if each["x"] == 200]
    assert {(each["k"], each["m"], each["r"]) for each in slow} == {(key, "response", 3)}


def test_time_by_part_adds_up_to_the_mean_service_time(summary: Summary) -> None:
    parts: dict[str, list[tuple[str, float]]] = {}
    for each in series.parts(summary):
        parts.setdefault(each["name"], []).append((each["part"], each["ms"]))
    for row in summary.rows:
        found = parts[str(row.name)]
        mean_ms = row.samples.times("service_us").mean() / 1e3
        assert sum(value_ms for _, value_ms in found) == pytest.approx(mean_ms, rel=1e-3)
        names = [series.UNDIVIDED] if row.via == "direct" else [series.CLIENT, "gateway", "backend"]
        assert [name for name, _ in found] == names


def test_the_capacity_has_a_picture_with_the_objective_once_it_is_there(stored: Any, summary: Summary) -> None:
    assert "capacity" not in charts.charts(summary)
    path = {"model": "simple_nn", "stack": "onnx", "via": "direct", "rate_rps": 900, "low_rps": 850, "high_rps": 950}
    steps = [{"rate_rps": 800, "p99_ms": 4.0, "met": True}, {"rate_rps": 1600, "p99_ms": None, "met": False}]
    stored.write("capacity", {"slo_p99_ms": 5, "paths": [path | {"cores": 1, "steps": steps}]})
    spec = charts.charts(build(stored.folder))["capacity"]
    points, objective = (layer["data"]["values"] for layer in spec["layer"])
    assert [(each["name"], each["rate"], each["p99"]) for each in points] == [("simple_nn@onnx direct", 800, 4.0)]
    assert objective == [{"slo": 5}]
