from pathlib import Path

import pytest

from training import primer


def written(folder: Path, code: str) -> Path:
    lesson = folder / "01_it.py"
    lesson.write_text(f"# %% [markdown]\n# # 1. It\n\n# %%\n{code}\n")
    return lesson


def test_lessons_are_found_by_their_numbers_in_order(tmp_path: Path) -> None:
    for name in ("10_b.py", "02_a.py", "README.md", "conf.py"):
        (tmp_path / name).touch()

    assert primer.lessons(tmp_path) == {2: tmp_path / "02_a.py", 10: tmp_path / "10_b.py"}


def test_a_lesson_runs_as_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert primer.run(written(tmp_path, "print(__name__)")) == 0
    assert capsys.readouterr().out == "__main__\n"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import math\nmath.sqrt('x')", "01_it.py, line 6: TypeError: must be real number, not str\n"),
        ("answer = (3,", "01_it.py, line 5: SyntaxError: '(' was never closed (01_it.py, line 5)\n"),
    ],
)
def test_a_mistake_in_an_answer_is_one_line_with_its_place(
    code: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert primer.run(written(tmp_path, code)) == 1
    assert capsys.readouterr().err == line


def test_without_a_number_the_lessons_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert primer.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1. Tensors  (docs/primer/01_tensors.py)"
    assert len(lines) == len(primer.lessons()) + 1


@pytest.mark.parametrize("word", ["11", "0", "x"])
def test_a_number_that_no_lesson_has_is_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        primer.main([word])
    assert capsys.readouterr().err.count("\n") == 1
