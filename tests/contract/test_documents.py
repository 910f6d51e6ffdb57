"""What the documents name is there: files, targets, modules, ports; and no recipe has more than five steps."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.registries import ROOT, ours

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
RECIPES = ("docs/add-a-path.md", "docs/add-a-model.md")
MAX_STEPS = 5
# Names that stand for something, and folders that are made by running.
PLACEHOLDER = re.compile(r"[A-Z]{3,}|\*|^(artifacts|results|\.run|\.venv)\b")
TARGETS = frozenset(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def mistakes(text: str, folder: Path) -> Iterator[str]:
    """Yield what a document in `folder` names and what is not there."""
    for path in re.findall(r"`([\w.@-]*/[\w./@-]*)`", text):
        if not PLACEHOLDER.search(path) and not (ROOT / path).exists() and not path.startswith("/"):
            yield f"there is no {path}"
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("https://") and not (folder / link).exists():
            yield f"the link {link} leads nowhere"
    for words in re.findall(r"(?:^|`)make ((?:[a-z0-9-]+ ?)+)", text, re.MULTILINE):
        yield from (f"make has no target {word}" for word in words.split() if word not in TARGETS)
    for module in re.findall(r"python -m ([a-z_.]+[a-z_])", text):
        if importlib.util.find_spec(module) is None:
            yield f"there is no module {module}"


def steps(text: str) -> list[int]:
    """Return the numbers of steps of each recipe in a document."""
    return [len(re.findall(r"^\d+\. ", part, re.MULTILINE)) for part in re.split(r"^## ", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_names_what_is_there(document: Path) -> None:
    assert list(mistakes(document.read_text(), document.parent)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("see `servepath/protocols/gone.py`", "there is no servepath/protocols/gone.py"),
        ("see [it](docs/gone.md)", "the link docs/gone.md leads nowhere"),
        ("run `make train gone`", "make has no target gone"),
        ("make gone\n", "make has no target gone"),
        ("`python -m services.gone --help`", "there is no module services.gone"),
    ],
)
def test_what_is_not_there_is_named(text: str, line: str) -> None:
    assert list(mistakes(text, ROOT)) == [line]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_at_most_five_steps(name: str) -> None:
    found = steps((ROOT / name).read_text())
    assert 0 < max(found) <= MAX_STEPS


@pytest.mark.parametrize("decision", sorted(ROOT.glob("docs/adr/0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_status_with_a_date_and_is_in_the_index(decision: Path) -> None:
    assert re.match(r"# \d+\. .+\n\n\*\*Status\.\*\* (Accepted|Replaced by \d+), \d{4}-\d\d-\d\d", decision.read_text())
    assert f"({decision.name})" in (decision.parent / "README.md").read_text()


def test_a_sixth_step_is_counted() -> None:
    assert steps("# A\n1. a\n## B\n" + "1. b\n   more\n" * 6) == [1, 6]


def test_operate_lists_every_port() -> None:
    table = (ROOT / "docs/operate.md").read_text().partition("## Ports")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\d, ]+) \|", table, re.MULTILINE)
    listed = {(service, port) for service, ports in rows for port in ports.split(", ")}
    assert listed == {(name, ours().environment[port]) for name, ports in ours().local.items() for port in ports}
