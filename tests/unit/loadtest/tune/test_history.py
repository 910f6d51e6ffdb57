from pathlib import Path

import pytest

from loadtest.tune.history import History
from loadtest.tune.search import Round, Trial
from servepath.settings import SettingsError

CONTEXT = {"path": "m@onnx", "goal": "rate", "artifact": "ab", "git_commit": "cd" * 20}
TRIALS = [
    Trial((("precision", "int8"), ("threads", 4)), (Round(100.0, 120.5), Round(99.0, 70.0, limited=True))),
    Trial((("threads", 1),), (), "does not start: no"),
    Trial((("threads", 4),), (Round(1.0, 2.0),), confirming=True),
]


def kept(folder: Path) -> Path:
    history = History.read(folder / "t" / "m@onnx.trials.json", CONTEXT, 7)
    for trial in TRIALS:
        history.add(trial)
    return history.file


def test_trials_come_back_as_they_were(tmp_path: Path) -> None:
    found = History.read(kept(tmp_path), CONTEXT, None)

    assert (found.trials, found.seed) == (TRIALS, 7)


@pytest.mark.parametrize("context", [{**CONTEXT, "artifact": "cd"}, {**CONTEXT, "goal": "cpu"}])
def test_trials_of_something_else_do_not_count(tmp_path: Path, context: dict[str, str]) -> None:
    assert History.read(kept(tmp_path), context, None).trials == []


def test_another_seed_is_another_search(tmp_path: Path) -> None:
    file = kept(tmp_path)

    assert History.read(file, CONTEXT, 8).trials == []
    assert History.read(file, CONTEXT, 7).trials == TRIALS


def test_the_trials_of_another_search_are_moved_aside_and_never_lost(tmp_path: Path) -> None:
    file = kept(tmp_path)
    before = file.read_text()

    for seed in (8, 9):
        History.read(file, CONTEXT, seed).add(TRIALS[0])

    assert file.with_name("m@onnx.trials.1.json").read_text() == before
    assert History.read(file.with_name("m@onnx.trials.2.json"), CONTEXT, None).seed == 8
    assert History.read(file, CONTEXT, None).seed == 9


@pytest.mark.parametrize("commit", ["unknown", f"{'cd' * 20}-dirty"])
def test_trials_of_code_that_no_commit_names_do_not_count(tmp_path: Path, commit: str) -> None:
    context = {**CONTEXT, "git_commit": commit}
    file = tmp_path / "m@onnx.trials.json"
    History.read(file, context, 7).add(TRIALS[0])

    found = History.read(file, context, None)

    assert (found.trials, found.others, found.unnamed) == ([], True, True)
    assert not History.read(file, CONTEXT, None).unnamed


def test_a_confirmed_conclusion_is_counted_and_from_the_same_trials_once(tmp_path: Path) -> None:
    history = History.read(kept(tmp_path), CONTEXT, None)
    assert history.look == 1
    history.keep_look()
    history.keep_look()

    again = History.read(history.file, CONTEXT, None)

    assert (again.looks, again.look) == ([len(TRIALS)], 1)
    again.add(TRIALS[0])
    assert again.look == 2


def test_a_file_that_is_none_is_named_with_the_fix(tmp_path: Path) -> None:
    file = kept(tmp_path)
    file.write_text(file.read_text()[:-20])

    with pytest.raises(SettingsError, match=r"m@onnx.trials.json cannot be read .*; remove it"):
        History.read(file, CONTEXT, None)
