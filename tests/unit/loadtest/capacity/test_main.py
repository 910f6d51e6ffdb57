"""`python -m loadtest.capacity` and its words."""

import pytest

from loadtest.capacity import overload
from loadtest.capacity.__main__ import main
from loadtest.capacity.options import SHORTEST_S

DEFAULT_S = 90


def test_a_search_that_is_too_short_to_see_a_recovery_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--seconds=19.5"])

    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "servepath capacity: --seconds 19.5: give it 20 or more, or no recovery can be seen\n"
    )


def test_half_load_in_the_shortest_search_lasts_well_beyond_what_recovery_needs() -> None:
    assert SHORTEST_S / DEFAULT_S * overload.AFTER_S > 1.5 * overload.WELL_S
