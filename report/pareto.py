"""The pictures of what there is to choose from: p99 and capacity against cost, with the Pareto front."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from report.candidate import Candidate
from report.charts import COLOURS, COLUMNS, DASHES, GREY, Spec, frame
from report.recommendation import Answer, Recommendation

HEIGHT = 300
BAR = {"type": "rule", "opacity": 0.6}
LINE = {"type": "line", "strokeWidth": 2, "opacity": 0.7}
RING = {"type": "point", "size": 500, "strokeWidth": 1.5, "color": GREY}
POINT: Spec = {"type": "point", "size": 120, "strokeWidth": 2, "opacity": 1}
NAME = {"type": "text", "dy": 20}
SHAPES = dict(zip(DASHES, ("circle", "triangle-up"), strict=True))
# Of a picture: the field, its title, and the title of its line.
AXES = {
    "latency-by-cost": ("p99", "p99, ms (log scale)"),
    "capacity-by-cost": ("capacity", "capacity, req/s (log scale)"),
}


def charts(found: Recommendation, colours: Mapping[str, str]) -> dict[str, Spec]:
    """Return the specifications by the name of the place on the page; what has no points has no picture.

    colours: of paths in the other pictures.
    """
    values = points(found)
    bounds = {"p99": found.question.slo_p99_ms, "capacity": found.question.rate_rps}
    return {
        name: _chart(title, f"{unit(found)} (log scale)", _coloured(shown, colours), bounds[field])
        for name, (field, title) in AXES.items()
        if (shown := [value | {"y": value[field], **_ends(value, field)} for value in values if value[field]])
    }


def points(found: Recommendation) -> list[dict[str, Any]]:
    """Return a point for each path, way and settings with a cost: cost, p99 at the rate and capacity, with their ends.

    cost is the price of a million requests where one was declared, else ms of CPU per request.
    """
    return [value for answer in found.answers for value in _points(found, answer)]


def _points(found: Recommendation, answer: Answer) -> Iterator[dict[str, Any]]:
    factor = found.per_million(1.0) or 1e3
    shown = [each for each in answer.candidates if each.cost is not None]
    figures = {id(each): _figures(found, each) for each in shown}
    settings: dict[str, int] = {}
    for each in shown:
        settings[each.path] = settings.get(each.path, 0) + 1
    for each in shown:
        front = not any(_beats(figures[id(other)], figures[id(each)]) for other in shown)
        cost, p99 = each.cost and each.cost.estimate.times(factor), each.p99_at(found.question.rate_rps)
        ends = (each.capacity.low_rps, each.capacity.high_rps) if each.capacity else (None, None)
        yield {
            "name": f"{each.name} {each.via}",
            "path": each.path,
            "via": each.via,
            "settings": each.settings.name if settings[each.path] > 1 else "",
            "front": front,
            "dominated": not front,
            "recommended": answer.choice is not None and each is answer.choice.chosen,
            **_named("cost", cost or (None, None, None)),
            **_named("p99", p99 or (None, None, None)),
            **_named("capacity", (each.rate_rps or None, *ends)),
        }


def _named(name: str, found: Sequence[float | None]) -> dict[str, float | None]:
    short = [None if value is None else float(f"{value:.4g}") for value in found]
    return dict(zip((name, f"{name}_low", f"{name}_high"), short, strict=True))


def _figures(found: Recommendation, candidate: Candidate) -> tuple[float, float, float]:
    """Return what is to be small: cost, p99 at the rate, and the capacity's opposite; what is not known is worst."""
    p99 = candidate.p99_at(found.question.rate_rps)
    worst = float("inf")
    return candidate.cost.seconds if candidate.cost else worst, p99.value if p99 else worst, -candidate.rate_rps


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _ends(value: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {"low": value[f"{field}_low"], "high": value[f"{field}_high"]}


def unit(found: Recommendation) -> str:
    """Return what costs are in."""
    price = found.question.price
    return "ms of CPU per request" if price is None else f"{price.currency or 'price'} per million requests"


def _coloured(values: list[dict[str, Any]], colours: Mapping[str, str]) -> tuple[list[dict[str, Any]], Spec]:
    paths = list(dict.fromkeys(value["path"] for value in values))
    own = [colours.get(path, COLOURS[number % len(COLOURS)]) for number, path in enumerate(paths)]
    return values, {"domain": paths, "range": own}


def _chart(title: str, cost: str, coloured: tuple[list[dict[str, Any]], Spec], bound: float) -> Spec:
    """Chart one figure against the cost: its bound, intervals, lines between settings, points, and a ring."""
    values, scale = coloured
    log = {"type": "log", "nice": False, "padding": 24}
    x = {"field": "cost", "type": "quantitative", "title": cost, "scale": log}
    y = {"field": "y", "type": "quantitative", "title": title, "scale": log}
    legend = {"columns": {"expr": COLUMNS}, "symbolType": "stroke", "symbolStrokeWidth": 3}
    colour = {"field": "path", "type": "nominal", "scale": scale, "legend": legend}
    place = {"x": x, "y": y}
    vias = [via for via in SHAPES if any(value["via"] == via for value in values)]
    shapes = {"domain": vias, "range": [SHAPES[via] for via in vias]}
    point = place | _point(colour, shapes, cost, title)
    joined = place | {"color": colour, "detail": {"field": "via"}, "order": {"field": "settings"}}
    across = {"color": colour, "y": y, "x": x | {"field": "cost_low"}, "x2": {"field": "cost_high"}}
    along = {"color": colour, "x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
    layers = (
        ({"cost_low", "cost_high"}, BAR, across),
        ({"low", "high"}, BAR, along),
        ({"settings"}, LINE, joined),
        ({"recommended"}, RING, place),
        ({"dominated"}, POINT, point),
        ({"front"}, POINT | {"filled": True}, point),
        ({"settings"}, NAME, place | {"text": {"field": "settings"}}),
    )
    return frame(title) | {
        "height": HEIGHT,
        "data": {"values": values},
        "layer": [
            {
                "data": {"values": [{"bound": bound}]},
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [2, 3], "color": GREY},
                "encoding": {"y": {"field": "bound", "type": "quantitative"}},
            },
            *(
                _layer(fields, mark, encoding)
                for fields, mark, encoding in layers
                # The library warns of a layer that has nothing to show.
                if any(all(value[field] for field in fields) for value in values)
            ),
        ],
    }


def _layer(fields: Collection[str], mark: Spec, encoding: Spec) -> Spec:
    """Show the points that have all of these fields."""
    test = " && ".join(f"datum.{field}" for field in sorted(fields))
    return {"transform": [{"filter": test}], "mark": mark, "encoding": encoding}


def _point(colour: Spec, shapes: Spec, cost: str, title: str) -> Spec:
    """Encode the path as colour and the way as shape."""
    told = {"name": "path", "cost": cost, "y": title, "front": "on the Pareto front"}
    return {
        "color": colour,
        "shape": {"field": "via", "type": "nominal", "scale": shapes, "legend": {"orient": "top"}},
        "tooltip": [{"field": name, "title": heading} for name, heading in told.items()],
    }
