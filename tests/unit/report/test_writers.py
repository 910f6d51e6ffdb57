"""Each writer, on a small document with everything in it, and on a run's."""

import io
from typing import Any

import pytest
from rich.console import Console

from report.document import (
    Alert,
    Bullets,
    Cell,
    Code,
    Column,
    Definition,
    Definitions,
    Detail,
    Document,
    Fold,
    Section,
    Table,
    Text,
    Tone,
    trim,
)
from report.documents import run
from report.summary import build
from report.writers import html, markdown, terminal
from tests.unit.report.plain import plain

TABLE = Table(
    "Results",
    (
        Column("path", numeric=False, detail=Detail.BRIEF),
        Column("engine", numeric=False, wide=True, below=True, detail=Detail.BRIEF),
        Column("p50", "response, ms", detail=Detail.BRIEF),
        Column("p99", "response, ms"),
        Column("rounds", detail=Detail.FULL),
    ),
    ((Cell("a@b", aside="new"), Cell("x|y <z>\nw"), Cell("0.1", Tone.STRONG), Cell("0.2"), Cell("20")),),
)
SECTION = Section(
    "results",
    "Results",
    (
        Text("for all", detail=Detail.BRIEF),
        Text("for a screen"),
        Text("for the page", detail=Detail.FULL),
        TABLE,
        Fold("more", (Bullets((Text("point"),)), Code("make x"))),
        Definitions((Definition("term", "meaning", "whose"),)),
    ),
)
EMPTY = Section("rest", "Rest", (Fold("folded", (Text("deep", detail=Detail.FULL),)),))
DOCUMENT = Document(
    "A title",
    ("the lead",),
    (SECTION, EMPTY),
    Text("not valid", Tone.BAD),
    (Alert("not valid", "Why not", ("a reason",)),),
    Text("the end", Tone.DOUBT),
)


def on_terminal(document: Document) -> list[str]:
    console = Console(record=True, width=100, highlight=False, file=io.StringIO())
    terminal.show(document, console)
    return console.export_text().splitlines()


@pytest.mark.parametrize(
    ("detail", "shown", "left_out"),
    [
        (Detail.BRIEF, ["for all", "path engine p50"], ["for a screen", "point", "Rest", "folded"]),
        (Detail.USUAL, ["for a screen", "path engine p50 p99", "point"], ["for the page", "Rest", "deep"]),
        (Detail.FULL, ["for the page", "path engine p50 p99 rounds", "Rest", "folded", "deep"], []),
    ],
)
def test_a_document_is_trimmed_to_the_detail_that_is_wanted_and_nothing_empty_stays(
    detail: Detail, shown: list[str], left_out: list[str]
) -> None:
    lines = plain(DOCUMENT, detail).splitlines()
    assert [line for line in shown if line not in lines] == []
    assert [line for line in left_out if line in lines] == []
    assert trim(trim(DOCUMENT, detail), detail) == trim(DOCUMENT, detail)


def test_the_terminal_ends_with_the_reasons_and_the_outcome() -> None:
    lines = on_terminal(DOCUMENT)
    assert lines[0] == "A title"
    assert lines[-2:] == ["not valid: a reason", "the end"]
    (row,) = [line for line in lines if "a@b" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a@b new", "x|y <z>", "0.1", "0.2"]
    assert any(line.startswith("┃") and "response, ms" in line for line in lines)
    assert "make x" in lines


def test_square_brackets_are_no_markup_on_a_terminal() -> None:
    assert "[red]a[/]" in on_terminal(Document("[red]a[/]", (), ()))


def test_markdown_is_brief_and_no_cell_breaks_out_of_its_row() -> None:
    lines = markdown.render(DOCUMENT).splitlines()
    assert lines[0] == "### A title: not valid"
    assert "- **not valid**: a reason" in lines
    at = lines.index("| path | engine | p50 response, ms |")
    assert lines[at + 1 : at + 3] == ["|---|---|---|", "| a@b new | x\\|y &lt;z> w | 0.1 |"]


def test_the_page_puts_a_column_below_the_one_before_it_and_escapes_texts() -> None:
    text = "".join(html.render(DOCUMENT).split())
    assert '<th><tdclass="' not in text
    assert 'a@b<divclass="by">new</div><divclass="by">x|y&lt;z&gt;w</div></td>' in text
    assert '<thcolspan="2">response,ms</th>' in text
    assert '<tdclass="strong">0.1</td>' in text
    assert '<ahref="#results">results</a>' in text
    assert "<script" not in text


@pytest.mark.slow
@pytest.mark.parametrize("via", ["direct", "gateway"])
def test_an_engine_cannot_break_out_of_its_cell(stored: Any, via: str) -> None:
    for each in ("direct", "gateway"):
        stored.change_rows(
            f"simple_nn@onnx.{each}",
            lambda rows: [row | {"engine": "a|b<script>", "engine_version": "1\n2"} for row in rows],
        )
    lines = markdown.render(run.document(build(stored.folder))).splitlines()
    (line,) = [line for line in lines if line.startswith("| simple_nn@onnx") and f" {via} " in line]
    assert line.replace("\\|", "").count("|") == 9
    assert "a\\|b&lt;script>" in line
