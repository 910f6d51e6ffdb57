"""What the documents name is there: files, links, commands, ports; and no recipe has more than five steps.

Not checked: other programs' options (kubectl, docker, pip), values and what has no option's name, code in Python, and
whether an external address answers.
"""

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from servepath.__main__ import COMMANDS
from tests.contract.registries import ROOT, ours
from tests.limits import LONG_S

LESSONS = sorted(ROOT.glob("docs/primer/*.py"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(path for top in ("docs", "deploy", "models") for path in ROOT.glob(f"{top}/**/*.md"))]
)
RECIPES = ("docs/add-a-path.md", "docs/add-a-model.md")
MAX_STEPS = 5
# Names that stand for something, and folders that are made by running.
PLACEHOLDER = re.compile(r"[A-Z]{3,}|\*|^(artifacts|results|site|\.run|\.venv)\b")
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = frozenset(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
EXTERNAL = re.compile(r"https://[\w-]+(\.[\w-]+)+(/\S*)?")
# Where a command begins: a line, code in a line, the end of a path, or another command.
BEGINS = r"(?:^|`|/|&& )"


def text_of(document: Path) -> str:
    """Return a document's text; of a lesson that of its comments."""
    text = document.read_text()
    return text if document.suffix == ".md" else "\n".join(re.findall(r"^# ?(.*)", text, re.MULTILINE))


def mistakes(text: str, folder: Path) -> Iterator[str]:
    """Yield what a document in `folder` names and what is not there."""
    for path in re.findall(r"`([\w.@-]*/[\w./@-]*)`", text):
        if not PLACEHOLDER.search(path) and not (ROOT / path).exists() and not path.startswith("/"):
            yield f"there is no {path}"
    for link, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text):
        if "://" in link:
            if not EXTERNAL.fullmatch(link):
                yield f"the link {link} is no address"
        elif not (folder / link).exists() or (
            anchor and anchor not in anchors((folder / link).read_text() if link else text)
        ):
            yield f"the link {link}{anchor} leads nowhere"
    for words in re.findall(rf"{BEGINS}make ((?:[a-z0-9-]+ ?)+)", text, re.MULTILINE):
        yield from (f"make has no target {word}" for word in words.split() if word not in TARGETS)
    for words in re.findall(r"\.\[([a-z0-9_,-]+)\]", text):
        yield from (f"there is no extra {word}" for word in words.split(",") if word not in EXTRAS)
    yield from command_mistakes(text.replace("\\\n", " "))


def command_mistakes(text: str) -> Iterator[str]:
    """Yield the modules and commands that are not there, and the options and variables that they do not take."""
    for targets, given in re.findall(
        rf"{BEGINS}make ([a-z0-9 -]+)((?: ?[A-Z0-9_]+=(?:'[^']*'|[^\s'`]+))+)", text, re.MULTILINE
    ):
        taken = {name for target in targets.split() for name in variables(target)}
        yield from (
            f"make {targets.strip()} takes no {name}"
            for name in re.findall(r"([A-Z0-9_]+)=", re.sub("'.*?'", "", given))
            if name not in taken
        )
    for name, words in re.findall(rf"{BEGINS}servepath ([a-z][a-z-]*)([^`\n#]*)", text, re.MULTILINE):
        if name not in COMMANDS:
            yield f"servepath has no command {name}"
        else:
            yield from option_mistakes(f"servepath {name}", COMMANDS[name][0], words)
    for module, words in re.findall(r"python -m ([a-z_.]+[a-z_])([^`\n#]*)", text):
        if importlib.util.find_spec(module) is None:
            yield f"there is no module {module}"
        elif (ROOT / module.partition(".")[0]).exists():
            yield from option_mistakes(f"python -m {module}", module, words)


def option_mistakes(command: str, module: str, words: str) -> Iterator[str]:
    """Yield the options among words that no parser of the module's package has."""
    taken = options(module.partition(".")[0]) | {"--help"}
    yield from (
        f"{command} has no {option}" for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", words) if option not in taken
    )


@cache
def options(package: str) -> frozenset[str]:
    """Return every option that the sources of a package add, by argparse or as a setting (servepath/settings.py)."""
    sources = "\n".join(path.read_text() for path in (ROOT / package).rglob("*.py"))
    settings = re.findall(r'\bsetting\(\s*"([a-z0-9_]+)"', sources)
    return frozenset([*re.findall(r'"(--[a-z0-9-]+)"', sources), *(f"--{name.replace('_', '-')}" for name in settings)])


@cache
def variables(target: str) -> frozenset[str]:
    """Return the variables that a target's recipe, its definitions and what it is made of use."""
    rule = re.search(rf"^{re.escape(target)}:(?!=)([^#\n]*).*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    if rule is None:
        return frozenset()
    found, left = set(), re.findall(r"\b[A-Z][A-Z0-9_]*\b", rule[1] + rule[2])
    while left:
        found.add(name := left.pop())
        definition = re.search(rf"^{name} *:?=(.*)", MAKEFILE, re.MULTILINE)
        left += set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", definition[1] if definition else "")) - found
    return frozenset(found).union(*(variables(other) for other in rule[1].split()))


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
    words = re.search(r"^docs:.*\n\t\.venv/bin/sphinx-build (.*) site$", MAKEFILE, re.MULTILINE)
    assert words is not None
    command = [sys.executable, "-m", "sphinx", *words[1].split(), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "three dots" in (tmp_path / "docs/primer/01_tensors.html").read_text()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("see `servepath/protocols/gone.py`", "there is no servepath/protocols/gone.py"),
        ("see [it](docs/gone.md)", "the link docs/gone.md leads nowhere"),
        ("run `make train gone`", "make has no target gone"),
        ("make gone\n", "make has no target gone"),
        ("`make import FILE=a NAME=b && make gone`", "make has no target gone"),
        ("`pip install -c constraints.txt '.[client,gone]'`", "there is no extra gone"),
        ("`python -m services.gone --help`", "there is no module services.gone"),
        ("`python -m services.gateway --gone`", "python -m services.gateway has no --gone"),
        ("`servepath gone`", "servepath has no command gone"),
        (".venv/bin/servepath ask MODEL --all --gone", "servepath ask has no --gone"),
        ("`make loadtest RATE=9 GONE=1`", "make loadtest takes no GONE"),
        ("make down up LESSON='1 2'\n", "make down up takes no LESSON"),
        ("see [it](docs/primer/README.md#gone)", "the link docs/primer/README.md#gone leads nowhere"),
        ("# A heading\nsee [it](#another)", "the link #another leads nowhere"),
        ("see [it](https://nowhere)", "the link https://nowhere is no address"),
        ("see [it](http://example.org)", "the link http://example.org is no address"),
    ],
)
def test_what_is_not_there_is_named(text: str, line: str) -> None:
    assert list(mistakes(text, ROOT)) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "# A heading: of `two` parts\nsee [it](#a-heading-of-two-parts)",
        "`make loadtest RATE=9 PATHS='a b'`, `make import FILE=a NAME=b && make up`, `make setup NEWEST=python3.11`",
        "kubectl -n servepath delete job --ignore-not-found",
        "`.venv/bin/servepath loadtest --help`, `python -m pytest -q --anything`",
    ],
)
def test_what_is_there_is_no_mistake(text: str) -> None:
    assert list(mistakes(text, ROOT)) == []


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
