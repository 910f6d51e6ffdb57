import pytest

from studies.loadgen.__main__ import main


def test_rounds_that_are_too_few_for_the_interval_of_a_p99_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", "4"])
    assert ended.value.code == 2
    assert "argument --rounds: '4' is not a whole number from 5" in capsys.readouterr().err
