"""What the gate lets its two sides differ in, and what it refuses."""

from pathlib import Path

import pytest

from loadtest.gate.command import MIN_ROUNDS, PROTO, ROUNDS, allowed_of, main
from report import verdicts

ROOT = Path(__file__).parents[3]


def test_the_sides_of_this_tree_may_not_differ_in_precision() -> None:
    assert allowed_of(ROOT) == []


def test_a_ref_whose_servers_do_not_say_their_precision_may(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / PROTO).parent.mkdir(parents=True)
    (tmp_path / PROTO).write_text("message Served { string engine = 3; }")
    assert allowed_of(tmp_path) == ["--allow=precision"]
    assert "the ref's servers do not say which precision they compute in" in capsys.readouterr().out


def test_the_gate_decides_on_rounds_that_are_fixed_before(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--ref", "v1", "--difference", "0.05"])
    assert "--difference cannot be given" in capsys.readouterr().err


def test_rounds_that_are_too_few_for_any_decision_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert ROUNDS >= MIN_ROUNDS == verdicts.MIN_ROUNDS
    with pytest.raises(SystemExit, match="2"):
        main(["--ref", "v1", "--rounds", "10"])
    assert "--rounds 10: a decision needs 11 or more" in capsys.readouterr().err
