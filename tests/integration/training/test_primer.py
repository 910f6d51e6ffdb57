"""Every lesson of docs/primer runs, teaches what it says, and has an exercise that docs/primer/answers.md answers."""

import contextlib
import io
import re
import runpy
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models import frameworks
from training import primer

ANSWERS = primer.FOLDER / "answers.md"
MAX_LINES = 60
PUBLISHED_LESSON, DRAWING_LESSON, PICTURES = 9, 6, 5
UNSOLVED, SOLVED = "Exercise: not solved yet\n", "Exercise: solved\n"
# One that a reader might give, by lesson; with some of them the libraries stop, as they would for the reader.
WRONG = {1: "(3, 5)", 2: "5", 3: "error.mean()", 4: "1", 5: "1", 6: "30", 7: "800_000", 8: "5", 9: "1", 10: "1"}
LESSONS = pytest.mark.parametrize("number", primer.lessons())


class Ran(NamedTuple):
    """A lesson that has run: what it printed, and its variables."""

    said: str
    variables: dict[str, Any]
    folder: Path


def run(path: Path, variables: dict[str, Any] | None = None) -> Ran:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found = runpy.run_path(str(path), init_globals=variables)
    return Ran(said.getvalue(), found, path.parent)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Ran]:
    """Return what gives each lesson as it is in the repository, run once, in a copy of the checkout that it reads."""
    frameworks.tensorflow()
    root = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "deployments.toml"):
        shutil.copy(primer.FOLDER.parents[1] / name, root / name)
    copy = Path(shutil.copytree(primer.FOLDER, root / "docs/primer"))
    for picture in (copy / "pictures").iterdir():
        picture.unlink()
    return cache(lambda number: run(copy / primer.lessons()[number].name))


def answered(lesson: int, ran: Callable[[int], Ran], answer: str) -> str:
    """Return what a lesson's last cell prints with an answer in place of the three dots."""
    head, dots, tail = primer.lessons()[lesson].read_text().partition("\nanswer = ...\n")
    assert dots
    assert "# ## Exercise" in head
    cell = ran(lesson).folder / "exercise.py"
    cell.write_text(f"answer = {answer}\n{tail}")
    return run(cell, ran(lesson).variables).said


def answers() -> dict[int, str]:
    rows = re.findall(r"^\| \[(\d+)\. [^|]+ \| `([^|]+)` \|", ANSWERS.read_text(), re.MULTILINE)
    return {int(number): answer for number, answer in rows}


@LESSONS
def test_a_lesson_runs_as_it_is_given_with_its_exercise_unsolved(number: int, ran: Callable[[int], Ran]) -> None:
    assert ran(number).said.endswith(UNSOLVED)


@LESSONS
def test_the_answer_solves_the_exercise(number: int, ran: Callable[[int], Ran]) -> None:
    assert answered(number, ran, answers()[number]).endswith(SOLVED)


@LESSONS
def test_a_wrong_answer_does_not_solve_the_exercise(number: int, ran: Callable[[int], Ran]) -> None:
    try:
        said = answered(number, ran, WRONG[number])
    except RuntimeError as error:
        said = f"{error}\n{UNSOLVED}"
    assert said.endswith(UNSOLVED)


@LESSONS
def test_a_lesson_has_at_most_sixty_lines_and_a_heading_with_its_number(number: int) -> None:
    lesson = primer.lessons()[number]
    assert len(lesson.read_text().splitlines()) <= MAX_LINES
    assert primer.title(lesson).startswith(f"{number}. ")


def test_the_pictures_are_those_that_the_lesson_draws(ran: Callable[[int], Ran]) -> None:
    drawn, kept = (
        {path.name: path.read_bytes() for path in (folder / "pictures").iterdir()}
        for folder in (ran(DRAWING_LESSON).folder, primer.FOLDER)
    )
    assert drawn == kept
    assert len(kept) == PICTURES


def test_the_figures_are_those_that_the_readme_publishes(ran: Callable[[int], Ran]) -> None:
    readme = (primer.FOLDER.parents[1] / "README.md").read_text()
    row = r"^\| policy_classifier@(\w+) \| .+ \| ([\d.]+) \| [\d.]+ \| \d+ \| \d+ \|$"
    published = dict(re.findall(row, readme, re.MULTILINE))
    said = ran(PUBLISHED_LESSON).said
    assert dict(re.findall(r"^(\w+) +([\d.]+) ms", said, re.MULTILINE)) == published
    assert re.match(r"2\d{3}-\d\d-\d\d, .+, commit \w{7}: ", said)
    assert not any(figure in primer.lessons()[PUBLISHED_LESSON].read_text() for figure in published.values())
