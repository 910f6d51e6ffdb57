"""The pictures as Vega-Lite specifications: data, not code; page.html.j2 has the library that draws them.

Each has two parameters that the page's form sets: `metric` (response or service time) and `shown` (keys of series).
"""

from collections.abc import Sequence
from typing import Any

from report import series
from report.series import Series
from report.summary import Summary

# Okabe and Ito's palette, of middling lightness: told apart by colour-blind readers, on white and on dark ground.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8A63D2", "#A0522D")
GREY = "#808080"
DASHES = {"direct": [1, 0], "gateway": [6, 4]}
PARTS = {
    series.UNDIVIDED: "#999999",
    series.CLIENT: "#56B4E9",
    "gateway": "#D55E00",
    series.QUEUE: "#E69F00",
    "backend": "#009E73",
}
PERCENT_LABELS = (
    "datum.value == 0 ? 'fastest' : datum.value < 0.5 ? 'p50' : 'p' + format(100 * (1 - pow(10, -datum.value)), '.5~g')"
)
# Of a legend: one below the other on a phone.
COLUMNS = "width < 420 ? 1 : 4"
# Of a path's name beside a picture: the way below the path on a phone, or there is no room for the legend.
NAME = {
    "labelExpr": "width < 420 ? [slice(datum.label, 0, indexof(datum.label, ' ')), "
    "slice(datum.label, indexof(datum.label, ' ') + 1)] : datum.label",
    "labelLineHeight": 11,
    "labelOffset": {"expr": "width < 420 ? -5.5 : 0"},  # else the first of two lines stands in the middle
}
Spec = dict[str, Any]


def charts(summary: Summary) -> dict[str, Spec]:
    """Return the specifications by the name of the place on the page; what has no data has no picture."""
    lines, rows = series.series(summary), series.rows_of(summary)
    if not lines:
        return {}
    found = {"distribution": distribution(summary, lines, series.curves(rows))}
    found["time"] = over_time(summary, lines, series.over_time(rows))
    found["parts"] = parts(series.parts(summary))
    if summary.capacity is not None:
        found["capacity"] = capacity(lines, series.capacity_steps(summary), summary.capacity["slo_p99_ms"])
    return found


def colours(lines: Sequence[Series]) -> dict[str, str]:
    """Assign a colour to each path; direct and gateway share it, and the no-op server is grey."""
    paths = [path for path in dict.fromkeys(line.path for line in lines) if "@" in path]
    return {path: COLOURS[number % len(COLOURS)] for number, path in enumerate(paths)} | {"no-op server": GREY}


def distribution(summary: Summary, lines: Sequence[Series], values: list[dict[str, Any]]) -> Spec:
    """Chart latency by percentile, both axes logarithmic: one more nine for each step to the right."""
    x = {
        "field": "n",
        "type": "quantitative",
        "title": "percentile",
        "scale": {"nice": False},
        "axis": {"values": [0, 0.30103, 1, 2, 3, 4, 5], "labelExpr": PERCENT_LABELS},
    }
    return _base(summary, lines, values, "Latency by percentile") | {
        "height": 340,
        "mark": {"type": "line", "strokeWidth": 2, "interpolate": "step-after"},
        "encoding": {"x": x, "y": _latency("v"), **_line_style(lines), "tooltip": _tooltip("n", "nines")},
    }


def over_time(summary: Summary, lines: Sequence[Series], values: list[dict[str, Any]]) -> Spec:
    """Chart the median of each quarter of a second as a point, with a line up to its slowest request."""
    base = _base(summary, lines, values, "Latency over the run's time")
    base["params"].append({"name": "round", "value": -1})
    base["transform"].append({"filter": "round < 0 || datum.r == round"})
    style = _line_style(lines)
    style.pop("strokeDash")
    style |= {"x": _seconds(), "y": _latency("v")}
    return base | {"height": 340, "layer": [_slowest(style), _medians(style)]}


def _slowest(style: Spec) -> Spec:
    """Return the lines from the medians up; the zoom of the whole picture is on them."""
    mark = {"type": "rule", "opacity": 0.35}
    return {"params": [_zoom()], "mark": mark, "encoding": style | {"y2": {"field": "x"}}}


def _medians(style: Spec) -> Spec:
    """Return the points, round for direct and triangular through the gateway."""
    scale = {"domain": list(DASHES), "range": ["circle", "triangle"]}
    shape = {"field": "via", "type": "nominal", "scale": scale, "legend": None}
    slowest = {"field": "x", "type": "quantitative", "title": "slowest, ms"}
    told = {"shape": shape, "tooltip": [*_tooltip("t", "seconds"), slowest]}
    return {"mark": {"type": "point", "filled": True, "size": 22}, "encoding": style | told}


def _seconds() -> Spec:
    scale = {"zero": False, "nice": False}
    return {"field": "t", "type": "quantitative", "title": "seconds since the run began", "scale": scale}


def _zoom() -> Spec:
    """Return a zoom with Shift, since the wheel alone scrolls the page.

    The form's choice of a round does it by keys.
    """
    select = {
        "type": "interval",
        "encodings": ["x"],
        "zoom": "wheel![event.shiftKey]",
        "translate": "[mousedown, window:mouseup] > window:mousemove!",
    }
    return {"name": "zoom", "select": select, "bind": "scales"}


def parts(values: list[dict[str, Any]]) -> Spec:
    """Chart the mean service time, stacked by part."""
    names, kinds = list(dict.fromkeys(value["name"] for value in values)), {value["part"] for value in values}
    domain = [part for part in PARTS if part in kinds]
    colour = {"domain": domain, "range": [PARTS[part] for part in domain]}
    return frame("Mean service time by part") | {
        "height": 26 * len(names),
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": names,
                "title": None,
                "axis": {"labelLimit": 260} | NAME,
            },
            "x": {"field": "ms", "type": "quantitative", "title": "mean service time, ms"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": colour,
                "legend": {"columns": {"expr": COLUMNS}},
            },
            "order": {"field": "order"},
            "tooltip": [{"field": "name", "title": "path"}, {"field": "part"}, {"field": "ms", "title": "mean, ms"}],
        },
    }


def capacity(lines: Sequence[Series], values: list[dict[str, Any]], slo_p99_ms: float) -> Spec:
    """Chart the p99 at each rate of the trials, with the objective as a line."""
    colour = colours(lines)
    domain = list(dict.fromkeys(value["path"] for value in values))
    scale = {"domain": domain, "range": [colour.get(path, GREY) for path in domain]}
    fields = {"rate": "requests a second", "p99": "p99, ms"}
    tooltip = [{"field": "name", "title": "path"}, *({"field": name, "title": title} for name, title in fields.items())]
    encoding = {
        "x": {"field": "rate", "type": "quantitative", "title": fields["rate"]},
        "y": _latency("p99") | {"title": "p99 of response times, ms"},
        "color": {"field": "path", "type": "nominal", "scale": scale, "legend": {"columns": {"expr": COLUMNS}}},
        "strokeDash": {"field": "via", "type": "nominal", "scale": _dashes(), "legend": None},
        "detail": {"field": "name", "type": "nominal"},
        "tooltip": tooltip,
    }
    return frame("p99 by rate") | {
        "height": 320,
        "layer": [
            {"data": {"values": values}, "mark": {"type": "line", "point": True}, "encoding": encoding},
            {
                "data": {"values": [{"slo": slo_p99_ms}]},
                "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [2, 3], "color": GREY},
                "encoding": {"y": {"field": "slo", "type": "quantitative"}},
            },
        ],
    }


def frame(description: str) -> Spec:
    """Return what all charts share: as wide as their container, no background, the page's fonts."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "background": None,
        "config": {
            "font": "sans-serif",
            "view": {"stroke": None},
            "axis": {"gridOpacity": 0.6, "labelFontSize": 12},
            "legend": {"orient": "bottom", "title": None, "labelFontSize": 12, "labelLimit": 0},
        },
    }


def _base(summary: Summary, lines: Sequence[Series], values: list[dict[str, Any]], description: str) -> Spec:
    looked_up = {"data": {"values": [line._asdict() for line in lines]}, "key": "key"}
    return frame(description) | {
        "data": {"values": values},
        "params": [
            {"name": "metric", "value": "response" if summary.open_loop else "service"},
            {"name": "shown", "value": [line.key for line in lines]},
        ],
        "transform": [
            {"filter": "datum.m == metric && indexof(shown, datum.k) >= 0"},
            {"lookup": "k", "from": looked_up | {"fields": ["name", "path", "via", "engine"]}},
        ],
    }


def _latency(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": "ms (log scale)", "scale": {"type": "log", "nice": True}}


def _line_style(lines: Sequence[Series]) -> dict[str, Any]:
    """Encode the path as colour and the way as dash; the page's form is the legend."""
    colour = colours(lines)
    domain = list(dict.fromkeys(line.path for line in lines))
    scale = {"domain": domain, "range": [colour[path] for path in domain]}
    return {
        "color": {"field": "path", "type": "nominal", "scale": scale, "legend": None},
        "strokeDash": {"field": "via", "type": "nominal", "scale": _dashes(), "legend": None},
        "detail": {"field": "k", "type": "nominal"},
    }


def _dashes() -> Spec:
    return {"domain": list(DASHES), "range": list(DASHES.values())}


def _tooltip(field: str, title: str) -> list[dict[str, str]]:
    shown = {"name": "path", "engine": "engine", field: title, "v": "ms"}
    return [{"field": name, "title": heading} for name, heading in shown.items()]
