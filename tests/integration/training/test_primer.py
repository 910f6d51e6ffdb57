"""Every lesson of docs/primer runs, teaches what it says, and has an exercise that docs/primer/answers.md answers."""

import contextlib
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from models import frameworks
from models.simple_nn.training import INPUTS, TARGETS
from report import schema
from tests.limits import LONG_S
from training import primer

ANSWERS = primer.FOLDER / "answers.md"
MAX_LINES = 60
PUBLISHED_LESSON, DRAWING_LESSON, PICTURES = 9, 6, 5
UNSOLVED, SOLVED = "Exercise: not solved yet\n", "Exercise: solved\n"
# One that a reader might give, by lesson, and with which PyTorch stops, as it would for the reader.
WRONG = {1: "(7, 8)", 2: "5", 3: "error.mean()", 4: "1", 5: "1", 6: "30", 7: "800_000", 8: "5", 9: "1", 10: "1"}
STOPS = (1,)
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
    """Return what gives each lesson as it is in the repository, run once, in a copy of their folder."""
    frameworks.tensorflow()
    copy = Path(shutil.copytree(primer.FOLDER, tmp_path_factory.mktemp("lessons") / "primer"))
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
    stops = pytest.raises(RuntimeError, match="mat1 and mat2") if number in STOPS else contextlib.nullcontext()
    with stops:
        assert answered(number, ran, WRONG[number]).endswith(UNSOLVED)


def test_the_slope_that_autograd_found_does_not_solve_the_exercise(ran: Callable[[int], Ran]) -> None:
    assert answered(3, ran, "b.grad").endswith(UNSOLVED)


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


def test_each_curve_has_the_shape_that_the_lesson_names(ran: Callable[[int], Ran]) -> None:
    lesson = ran(DRAWING_LESSON).variables
    curves = {name: lesson["train"](*case)[0] for name, case in lesson["cases"].items()}
    ends = {name: curve[-1, 1] / curve[:, 1].min() for name, curve in curves.items()}
    assert ends["good"] < 1.01  # of validation: it falls, and stays
    assert curves["good"][-6, 1] < curves["good"][-1, 1] * 1.01  # level
    assert ends["low"] == 1
    assert curves["low"][-6, 1] > curves["low"][-1, 1] * 1.03  # still falling
    assert (np.diff(curves["high"][:, 0]) > 0).sum() > 10  # of the rows that are learned: up and down
    assert curves["high"][-1, 0] < curves["high"][0, 0] * 10
    assert curves["divergence"][-1, 0] > curves["divergence"][0, 0] * 1e9
    assert curves["overfit"][-1, 0] < curves["overfit"][0, 0] / 10
    assert ends["overfit"] > 1.5


def test_the_training_loop_learns_the_data_of_this_projects_models(ran: Callable[[int], Ran]) -> None:
    lesson = ran(5).variables
    assert np.array_equal(lesson["x"], INPUTS)
    assert np.array_equal(lesson["target"], TARGETS)


def test_a_lesson_runs_by_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "servepath", "primer", "1"], capture_output=True, text=True, timeout=LONG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1. Tensors\n")
    assert done.stdout.endswith(UNSOLVED)


def test_the_figures_are_those_of_the_stored_run_which_the_readme_publishes(ran: Callable[[int], Ran]) -> None:
    readme = (primer.FOLDER.parents[1] / "README.md").read_text()
    row = r"^\| policy_classifier@(\w+) \| .+ \| ([\d.]+) \| ([\d.]+) \| \d+ \| \d+ \|$"
    published = re.findall(row, readme, re.MULTILINE)
    stored = json.loads((primer.FOLDER / "summary.json").read_text())
    said = ran(PUBLISHED_LESSON).said
    assert re.findall(r"^(\w+) +([\d.]+) ms +([\d.]+) ms", said, re.MULTILINE) == published
    assert published == [
        (path["stack"], f"{path['response_p50_ms']:.1f}", f"{path['response_p99_ms']:.1f}") for path in stored["paths"]
    ]
    for fact in (stored["started"][:10], stored["git_commit"][:7]):
        assert fact in said
        assert fact in readme
    schema.validator("summary").validate(stored)
