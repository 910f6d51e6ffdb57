"""The pictures of cost against p99 and capacity: their points, front and lines."""

from typing import Any

import pytest
import vl_convert

from report import pareto
from report.summary import Summary
from report.writers.html import VEGA_LITE
from tests.unit.report.test_recommendation import CHEAP, COSTS, LIMITS, STRONG, added, at, card, entry, measured

TUNED = {"settings": "tuned 2026-11-29; onnx: threads 4"}


def both(summary: Summary) -> Summary:
    """Return a run with two settings of one path."""
    paths = [*(entry(*each) for each in LIMITS.items()), entry(CHEAP, (1800, 1700, 1900), **TUNED)]
    cards = [*(card(*each) for each in COSTS.items()), card(CHEAP, (0.10, 0.11, 0.12), **TUNED)]
    return added(summary, paths, cards)


def layers(summary: Summary, name: str) -> list[dict[str, Any]]:
    return list(pareto.charts(summary.recommendation, {})[name]["layer"])


def test_a_point_has_cost_p99_and_capacity_with_their_intervals(summary: Summary) -> None:
    (cheap, strong) = pareto.points(at(measured(summary), 450.0).recommendation)
    assert cheap == {
        "name": f"{CHEAP} direct",
        "path": CHEAP,
        "via": "direct",
        "settings": "",
        "front": True,
        "dominated": False,
        "recommended": True,
        "cost": 0.21,
        "cost_low": pytest.approx(0.186, abs=0.001),
        "cost_high": pytest.approx(0.237, abs=0.001),
        "p99": 2.5,
        "p99_low": 2.5,
        "p99_high": 2.5,
        "capacity": 900,
        "capacity_low": 850,
        "capacity_high": 950,
    }
    assert (strong["name"], strong["front"], strong["recommended"]) == (f"{STRONG} direct", True, False)


def test_with_a_price_the_cost_is_that_of_a_million_requests(summary: Summary) -> None:
    priced = measured(summary, price={"per_hour": 0.36, "currency": "EUR"})
    assert [point["cost"] for point in pareto.points(priced.recommendation)] == [0.0105, 0.0205]
    titles = [layer["encoding"]["x"]["title"] for layer in layers(priced, "latency-by-cost")[1:]]
    assert set(titles) == {"EUR per million requests (log scale)"}


def test_a_point_that_another_beats_in_everything_is_not_on_the_front(summary: Summary) -> None:
    beaten = measured(summary, costs={CHEAP: (0.50, 0.51, 0.52), STRONG: COSTS[STRONG]})
    points = pareto.points(at(beaten, 800.0).recommendation)
    assert {point["path"]: point["front"] for point in points} == {CHEAP: False, STRONG: True}


def test_a_line_joins_the_settings_of_a_path_and_names_them(summary: Summary) -> None:
    points = pareto.points(both(summary).recommendation)
    assert {point["name"]: point["settings"] for point in points} == {
        f"{CHEAP} direct": "defaults",
        f"{CHEAP} (tuned) direct": "tuned",
        f"{STRONG} direct": "",
    }
    for name in pareto.AXES:
        joined = [layer for layer in layers(both(summary), name) if layer["mark"]["type"] == "line"]
        assert [layer["transform"] for layer in joined] == [[{"filter": "datum.settings"}]]
        assert joined[0]["encoding"]["color"]["field"] == "path"


def test_objective_and_rate_are_the_lines_of_the_pictures(summary: Summary) -> None:
    bounds = {name: layers(measured(summary), name)[0]["data"]["values"] for name in pareto.AXES}
    assert bounds == {"latency-by-cost": [{"bound": 20.0}], "capacity-by-cost": [{"bound": 500.0}]}


def test_paths_keep_the_colours_of_the_other_pictures(summary: Summary) -> None:
    colours = {CHEAP: "#111111", STRONG: "#222222"}
    spec = pareto.charts(measured(summary).recommendation, colours)["capacity-by-cost"]
    scale = spec["layer"][1]["encoding"]["color"]["scale"]
    assert scale == {"domain": [CHEAP, STRONG], "range": ["#111111", "#222222"]}


def test_without_costs_there_is_nothing_to_draw(summary: Summary) -> None:
    assert pareto.charts(measured(summary, costs={}).recommendation, {}) == {}
    assert pareto.charts(summary.recommendation, {}) == {}


def test_a_path_without_a_p99_at_the_rate_is_in_the_other_picture_alone(summary: Summary) -> None:
    drawn = pareto.charts(at(measured(summary), 4000.0).recommendation, {})
    assert {name: [value["path"] for value in spec["data"]["values"]] for name, spec in drawn.items()} == {
        "latency-by-cost": [STRONG],
        "capacity-by-cost": [CHEAP, STRONG],
    }


@pytest.mark.slow
def test_the_library_draws_each_with_its_points(summary: Summary) -> None:
    for name, spec in pareto.charts(both(summary).recommendation, {}).items():
        svg = vl_convert.vegalite_to_svg(spec | {"width": 600}, vl_version=VEGA_LITE)
        assert svg.count('aria-roledescription="point"') == 3 + 1, name  # and the ring
