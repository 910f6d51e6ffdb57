"""What the gate lets its two sides differ in."""

from pathlib import Path

import pytest

from loadtest.gate.command import PROTO, allowed_of, main

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
