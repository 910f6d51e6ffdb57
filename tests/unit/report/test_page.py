import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from report.documents import run
from report.summary import Summary, build
from report.writers import html as page
from tests.synthetic_run import write_run

pytestmark = pytest.mark.slow

DIRECT, GATEWAY = "simple_nn@onnx.direct", "simple_nn@onnx.gateway"
# The library is most of it.
MAX_BYTES = 1_500_000


class Outside(HTMLParser):
    """Collects what a browser would fetch, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        addresses = [(tag, value) for name, value in attrs if name in {"src", "href", "xlink:href", "srcset"}]
        self.found += [(tag, value) for tag, value in addresses if not (value or "").startswith("#")]
        self.scripts += tag == "script"
        if tag in {"link", "iframe", "object"}:
            self.found.append((tag, None))


def html_of(summary: Summary) -> str:
    return page.render(run.document(summary))


def text_of(html: str) -> str:
    without_scripts = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", without_scripts)).replace("&#39;", "'")


def specs_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="specs">(.*?)</script>', html, re.DOTALL)
    return {} if found is None else dict(json.loads(found[1]))


def test_the_page_needs_nothing_from_outside(summary: Summary) -> None:
    html = html_of(summary)
    outside = Outside()
    outside.feed(html)
    assert outside.found == []
    assert outside.scripts == 3
    assert "default-src 'none'" in html
    assert "url(" not in html.replace(page.library(), "")
    assert "@import" not in html.replace(page.library(), "")


def test_the_page_is_small_enough_to_be_mailed(summary: Summary) -> None:
    assert len(html_of(summary).encode()) < MAX_BYTES


def test_a_run_of_sides_has_a_colour_for_each(tmp_path: Path) -> None:
    summary = build(write_run(tmp_path / "run", rounds=11, requests=662, sides={"old": 1.0, "new": 1.2}))
    colours = specs_of(page.render(run.document(summary)))["distribution"]["encoding"]["color"]["scale"]["range"]
    assert len(set(colours)) == len(colours) == 5  # two paths of two sides, and the no-op server


def test_the_form_names_engine_version_and_way_of_each_line(summary: Summary) -> None:
    text = text_of(html_of(summary))
    for via in ("direct", "gateway"):
        assert f"simple_nn@onnx {via} onnxruntime 1.31.1 (CPUExecutionProvider)" in text
        assert f"keras_dense@tfserving {via} embedded (tensorflow 2.21.0)" in text
    assert "no-op server answers at once" in text


def test_what_was_not_measured_says_so_with_the_command(summary: Summary) -> None:
    text = text_of(html_of(summary))
    assert "Not measured: make capacity" in text
    assert "Not measured: make scorecard" in text


def test_what_a_server_says_about_itself_cannot_become_markup(stored: Any) -> None:
    for measurement in (DIRECT, GATEWAY):
        stored.change_rows(measurement, lambda rows: [row | {"engine": "</script><script>x</script>"} for row in rows])
    html = html_of(build(stored.folder))
    assert html.count("<script") == 3
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "</script><script>x</script> 1.31.1" in str(specs_of(html))


def test_a_run_without_any_right_answer_still_has_a_page(stored: Any) -> None:
    for path in (stored.folder / "rows").glob("*.parquet"):
        stored.change_rows(path.stem.partition("-")[2], lambda rows: [row | {"wrong": True} for row in rows])
    html = html_of(build(stored.folder))
    assert "not valid" in html
    assert "<script" not in html
    assert "There is nothing to draw" in html


def test_a_path_with_wrong_answers_is_named_and_not_drawn(stored: Any) -> None:
    stored.change_rows(DIRECT, lambda rows: [*rows[:-1], rows[-1] | {"wrong": True}], only_round=0)
    html = html_of(build(stored.folder))
    assert "simple_nn@onnx direct: 1 of 1,320 responses are incorrect" in text_of(html)
    names = {line["name"] for line in specs_of(html)["distribution"]["transform"][1]["from"]["data"]["values"]}
    assert names == {"keras_dense@tfserving direct", "keras_dense@tfserving gateway", "simple_nn@onnx gateway"} | {
        "no-op server"
    }


def test_every_picture_is_one_that_the_library_can_read(summary: Summary) -> None:
    specs = specs_of(html_of(summary))
    assert list(specs) == ["distribution", "time", "parts"]
    for spec in specs.values():
        assert "<svg" in vl_convert.vegalite_to_svg(spec | {"width": 600}, vl_version=page.VEGA_LITE)


def test_a_closed_loop_has_no_choice_of_times(stored: Any) -> None:
    stored.close_loop()
    assert 'name="metric"' not in html_of(build(stored.folder))
