"""The lessons of docs/primer: `servepath primer` lists them, `servepath primer 3` runs one."""

import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import frameworks
from servepath.cli.arguments import Parser, whole
from servepath.cli.signals import run_main

FOLDER = Path(__file__).parents[1] / "docs/primer"
TITLE = "# # "


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimerOptions:
    """The command line. lesson: None to list them."""

    lesson: int | None


def lessons(folder: Path = FOLDER) -> Mapping[int, Path]:
    """Return the lessons by number, in order."""
    return {int(path.name[:2]): path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def title(lesson: Path) -> str:
    """Return a lesson's heading, its number included."""
    return next(line.removeprefix(TITLE) for line in lesson.read_text().splitlines() if line.startswith(TITLE))


def run(lesson: Path) -> int:
    """Run a lesson; return 1, with its line and what is wrong there, where it fails: answers of readers may."""
    if "import keras" in (text := lesson.read_text()) or "import tensorflow" in text:
        frameworks.tensorflow()  # else it prints its start-up chatter
    try:
        runpy.run_path(str(lesson), run_name="__main__")
    except Exception as error:  # noqa: BLE001 - whatever a reader's answer comes to
        print(f"{lesson.name}, line {_line(error, lesson)}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _line(error: Exception, lesson: Path) -> int | None:
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(lesson)), None)


def main(argv: Sequence[str]) -> int:
    """List the lessons or run one; return the exit code."""
    parser = Parser(prog="servepath primer", description=__doc__)
    parser.add_argument("lesson", type=whole(1), nargs="?", help="the number of the lesson to run (default: list them)")
    number = parser.read(PrimerOptions, argv).lesson
    found = lessons()
    if number is None:
        print(*(f"{title(lesson)}  (docs/primer/{lesson.name})" for lesson in found.values()), sep="\n")
        print("servepath primer NUMBER runs one; make primer LESSON=NUMBER does, too")
        return 0
    if number not in found:
        parser.error(f"there is no lesson {number}; they are 1 to {max(found)}")
    print(title(found[number]))
    return run(found[number])


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
