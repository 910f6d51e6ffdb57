"""What the documents name is there: files, links, commands (commands.py), ports; and no recipe has too many steps.

Not checked: code in Python, and whether an external address answers.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.calls import DEADLINE_S
from loadtest.open_loop import MAX_OUTSTANDING, OVERLOADED
from tests.contract import commands
from tests.contract.registries import ROOT, ours
from tests.limits import LONG_S

LESSONS = sorted(ROOT.glob("docs/primer/*.py"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(path for top in ("docs", "deploy", "models") for path in ROOT.glob(f"{top}/**/*.md"))]
)
RECIPES = ("docs/add-a-path.md", "docs/add-a-model.md")
MAX_STEPS = 5
EXTERNAL = re.compile(r"https://[\w-]+(\.[\w-]+)+(/\S*)?")


def text_of(document: Path) -> str:
    """Return a document's text; of a lesson that of its comments."""
    text = document.read_text()
    return text if document.suffix == ".md" else "\n".join(re.findall(r"^# ?(.*)", text, re.MULTILINE))


def mistakes(text: str, folder: Path) -> Iterator[str]:
    """Yield what a document in `folder` names and what is not there."""
    for link, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text):
        if "://" in link:
            if not EXTERNAL.fullmatch(link):
                yield f"the link {link} is no address"
        elif not (folder / link).exists() or (
            anchor and anchor not in anchors((folder / link).read_text() if link else text)
        ):
            yield f"the link {link}{anchor} leads nowhere"
    yield from commands.mistakes(text)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def steps(text: str) -> list[int]:
    """Return the numbers of steps of each recipe in a document."""
    return [len(re.findall(r"^\d+\. ", part, re.MULTILINE)) for part in re.split(r"^## ", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("document", [*DOCUMENTS, *LESSONS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_names_what_is_there(document: Path) -> None:
    assert list(mistakes(text_of(document), document.parent)) == []


def test_the_readme_leads_newcomers_to_the_primer_first() -> None:
    assert re.search(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())[1] == "docs/primer/README.md"


def test_the_primer_lists_every_lesson_and_every_answer() -> None:
    listed = [
        re.findall(r"^\| \[\d+\. [^|]+\]\(([^)]+)\) \|", (ROOT / "docs/primer" / name).read_text(), re.MULTILINE)
        for name in ("README.md", "answers.md")
    ]
    assert listed == [[path.name for path in LESSONS]] * 2


@pytest.mark.slow  # 20 s
def test_the_pages_are_made_without_a_warning(tmp_path: Path) -> None:
    words = re.search(r"^docs:.*\n\t\.venv/bin/sphinx-build (.*) site$", commands.MAKEFILE, re.MULTILINE)
    assert words is not None
    command = [sys.executable, "-m", "sphinx", *words[1].split(), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "three dots" in (tmp_path / "docs/primer/01_tensors.html").read_text()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("see [it](docs/gone.md)", "the link docs/gone.md leads nowhere"),
        ("see [it](docs/primer/README.md#gone)", "the link docs/primer/README.md#gone leads nowhere"),
        ("# A heading\nsee [it](#another)", "the link #another leads nowhere"),
        ("see [it](https://nowhere)", "the link https://nowhere is no address"),
        ("see [it](http://example.org)", "the link http://example.org is no address"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(text: str, line: str) -> None:
    assert list(mistakes(text, ROOT)) == [line]


def test_a_link_to_a_heading_is_no_mistake() -> None:
    assert list(mistakes("# A heading: of `two` parts\nsee [it](#a-heading-of-two-parts)", ROOT)) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_at_most_five_steps(name: str) -> None:
    found = steps((ROOT / name).read_text())
    assert 0 < max(found) <= MAX_STEPS


@pytest.mark.parametrize("decision", sorted(ROOT.glob("docs/adr/0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_status_with_a_date_and_is_in_the_index(decision: Path) -> None:
    assert re.match(r"# \d+\. .+\n\n\*\*Status\.\*\* (Accepted|Replaced by \d+), \d{4}-\d\d-\d\d", decision.read_text())
    assert f"({decision.name})" in (decision.parent / "README.md").read_text()


def reasons() -> Iterator[list[str]]:
    """Yield the words of each reason against a run, without what is filled in."""
    for name in ("validity", "fairness"):
        for node in ast.walk(ast.parse((ROOT / f"report/{name}.py").read_text())):
            if isinstance(node, ast.Yield) and node.value is not None:
                parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
                words = [str(part.value).strip(" ,:;(") for part in parts if isinstance(part, ast.Constant)]
                if found := [word for word in words if re.search("[a-z]{2}", word)]:
                    yield found


def test_every_reason_against_a_run_has_a_row_that_says_what_to_do() -> None:
    part = (ROOT / "docs/reading-a-report.md").read_text().partition("## When a run is not valid")[2]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", part.partition("\n## ")[0], re.MULTILINE))
    every = list(reasons())
    assert len(every) > 10
    assert [words for words in every if not any(all(word in row for word in words) for row in rows)] == []
    assert f"{MAX_OUTSTANDING:,}" in rows[f"with `{OVERLOADED}`"]
    assert f"within {DEADLINE_S:g} s" in rows["with `DEADLINE_EXCEEDED`"]


def test_a_sixth_step_is_counted() -> None:
    assert steps("# A\n1. a\n## B\n" + "1. b\n   more\n" * 6) == [1, 6]


def test_operate_lists_every_port() -> None:
    table = (ROOT / "docs/operate.md").read_text().partition("## Ports")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\d, ]+) \|", table, re.MULTILINE)
    listed = {(service, port) for service, ports in rows for port in ports.split(", ")}
    assert listed == {(name, ours().environment[port]) for name, ports in ours().local.items() for port in ports}
