from typing import Any

from report import markdown
from report.build import build


def test_the_summary_for_a_pull_request_is_short_and_says_what_is_decided(stored: Any) -> None:
    lines = markdown.render(build(stored.folder)).splitlines()
    assert lines[0] == "### Load test run: valid"
    assert lines[1].endswith(f"commit `{'0' * 40}`, seed 7")
    assert "- comparisons: 4 decided, 0 too close to call, 4 with too few rounds" in lines
    assert sum(line.startswith("| ") for line in lines) == 1 + 4
    assert len(lines) < 30


def test_an_engine_cannot_break_out_of_its_cell(stored: Any) -> None:
    for via in ("direct", "gateway"):
        stored.change_rows(
            f"simple_nn@onnx.{via}",
            lambda rows: [row | {"engine": "a|b<script>", "engine_version": "1\n2"} for row in rows],
        )
    lines = [line for line in markdown.render(build(stored.folder)).splitlines() if line.startswith("| simple_nn@onnx")]
    assert [line.replace("\\|", "").count("|") for line in lines] == [9, 9]
    assert "a\\|b&lt;script>" in lines[0]
