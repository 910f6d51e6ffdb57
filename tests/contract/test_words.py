"""Public names use the terms of docs/glossary.md, and none of the private words that they replaced."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs/glossary.md"
# Domain nouns that public names are made of; each must be explained by a term of the glossary.
DOMAIN = (
    "artifact",
    "attachment",
    "backend",
    "batch",
    "batcher",
    "batching",
    "capacity",
    "coalescer",
    "controller",
    "deadline",
    "decoder",
    "delay",
    "draining",
    "listener",
    "loop",
    "manifest",
    "measurement",
    "model",
    "parity",
    "path",
    "plane",
    "policy",
    "probe",
    "provenance",
    "queue",
    "reference",
    "replica",
    "router",
    "scope",
    "stack",
    "tolerance",
    "trial",
    "verdict",
    "warm",
)
# Private words of earlier versions, as parts of a name.
PRIVATE = re.compile(
    r"artefact|anew|\bmend(ed|s)?\b|rightly|whoever|outbox|goodbye|twins?|restless|witness|yardstick|planted|"
    r"to the end|held back|stand in|most|least|fewest"
)
# A private word that is the best one where it stands.
ALLOWED = re.compile(r"at most|at least|most of|most over|least over|least s\b")
# "Return ..." and "Yield ..." instead; the rest says what a speaker does, not what a function does.
VERBS = frozenset({"Give", "Say", "Tell", "Hear", "Ask", "Have", "Let"})


def words(name: str) -> str:
    """Return the words of an identifier in lower case: `MAX_ROWS`, `maxRows` and `MaxRows` give `max rows`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).strip("_").lower().replace("_", " ")


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the public names that a module defines: classes, functions, methods and constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
    for found in tree.body:
        targets = (
            found.targets
            if isinstance(found, ast.Assign)
            else [found.target]
            if isinstance(found, ast.AnnAssign)
            else []
        )
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def mistakes(tree: ast.Module) -> Iterator[str]:
    """Yield each private word in a public name, and each docstring that begins with a verb of VERBS."""
    for name in public_names(tree):
        found = PRIVATE.search(ALLOWED.sub("", words(name)))
        if not name.startswith("_") and found is not None and re.search(rf"\b{found.group()}", words(name)):
            yield f"{name}: {found.group()}"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = (ast.get_docstring(node) or "").split(" ", 1)[0]
            if first in VERBS:
                yield f"{node.name}: a docstring begins with {first}"


@cache
def product() -> dict[str, ast.Module]:
    """Return the syntax tree of every tracked Python file outside tests/."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split() if not name.startswith("tests/") and (ROOT / name).exists()]
    return {name: ast.parse((ROOT / name).read_text()) for name in names}


def rows() -> list[list[str]]:
    """Return the glossary's rows: term, meaning, source, names in the code."""
    lines = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("| ") and "|---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("| term")]


@pytest.mark.parametrize("name", sorted(product()))
def test_public_names_and_docstrings_use_no_private_words(name: str) -> None:
    assert [words(Path(name).stem), *mistakes(product()[name])] == [PRIVATE.sub("", words(Path(name).stem))]


@pytest.mark.parametrize(
    ("code", "mistake"),
    [
        ("MOST_ROWS = 1", "MOST_ROWS: most"),
        ("class ArtefactError(Exception): ...", "ArtefactError: artefact"),
        ("class Outbox: ...", "Outbox: outbox"),
        ("def read_anew(): ...", "read_anew: anew"),
        ("def f():\n    '''Give it.'''", "f: a docstring begins with Give"),
    ],
)
def test_a_private_word_is_found(code: str, mistake: str) -> None:
    assert list(mistakes(ast.parse(code))) == [mistake]


def test_domain_nouns_of_public_names_are_in_the_glossary() -> None:
    terms = " ".join(words(f"{row[0]} {row[3]}".replace("`", "")) for row in rows())
    used = {word for tree in product().values() for name in public_names(tree) for word in words(name).split()}
    assert [noun for noun in DOMAIN if noun in used and not re.search(rf"\b{noun}", terms)] == []
    assert [noun for noun in DOMAIN if noun not in used] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_term_is_explained_and_its_names_are_in_the_code(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    known = {name for tree in product().values() for name in public_names(tree)}
    assert [name for name in re.findall(r"`(\w+)`", row[3]) if name not in known] == []
