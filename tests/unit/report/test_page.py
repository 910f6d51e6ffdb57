import re
from html.parser import HTMLParser
from typing import Any

from report import charts, page
from report.__main__ import build


class Outside(HTMLParser):
    """Collects what a browser would fetch, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in {"src", "href", "xlink:href", "srcset"}]
        if tag in {"script", "link", "iframe", "object"}:
            self.found.append((tag, None))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", html))


def test_the_page_needs_nothing_from_outside(stored: Any) -> None:
    html = page.render(build(stored.folder))
    outside = Outside()
    outside.feed(html)
    assert outside.found == []
    assert "url(" not in html
    assert "@import" not in html


def test_legends_and_lanes_name_engine_version_and_way(stored: Any) -> None:
    text = text_of(page.render(build(stored.folder)))
    for via in ("direct", "gateway"):
        assert f"simple_nn@onnx {via} · onnxruntime 1.31.1 (CPUExecutionProvider)" in text
        assert f"keras_dense@tfserving {via} · embedded tensorflow 2.21.0" in text
        assert f"keras_dense@tfserving {via} embedded (tensorflow 2.21.0)" in text
    assert "closed loop" in text
    assert "279 warm-up requests are excluded" in text


def test_what_a_server_says_about_itself_cannot_become_markup(stored: Any) -> None:
    for via in ("direct", "gateway"):
        stored.change_rows(
            f"simple_nn@onnx.{via}", lambda rows: [row | {"engine": "<script>x</script>"} for row in rows]
        )
    html = page.render(build(stored.folder))
    assert "<script>" not in html
    assert "&lt;script&gt;x&lt;/script&gt;" in html


def test_a_run_without_any_right_answer_still_has_a_page(stored: Any) -> None:
    for path in (stored.folder / "rows").glob("*.parquet"):
        stored.change_rows(path.stem, lambda rows: [row | {"wrong": True} for row in rows])
    html = page.render(build(stored.folder))
    assert "not valid" in html
    assert "polyline" not in html


def test_each_path_has_its_colour_and_its_ways_share_it(stored: Any) -> None:
    drawn = charts.lanes(build(stored.folder).rows)
    assert drawn is not None
    assert [lane.colour for lane in drawn.lanes] == [charts.COLOURS[0]] * 2 + [charts.COLOURS[1]] * 2


def test_marks_stand_at_their_latency_on_the_logarithmic_axis() -> None:
    scale = charts.Scale(low_ms=1.0, high_ms=100.0, begin=0.0, end=200.0)
    assert [scale.at(value) for value in (1.0, 10.0, 100.0)] == [0.0, 100.0, 200.0]
    assert [tick.label for tick in scale.ticks()] == ["1", "2", "5", "10", "20", "50", "100"]


def test_the_slowest_percent_is_drawn_one_by_one(stored: Any) -> None:
    summary = build(stored.folder)
    drawn = charts.lanes(summary.rows)
    assert drawn is not None
    assert [lane.row.requests for lane in drawn.lanes] == [1022, 1008, 1025, 1024]
    assert [len(lane.slowest) for lane in drawn.lanes] == [10, 10, 10, 10]
