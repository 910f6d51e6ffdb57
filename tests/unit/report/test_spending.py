"""How sure each of many looks must be: against known cases, and against draws."""

import numpy as np
import pytest
from scipy import special

from report.spending import Look, nominal_levels, sequential_p_values

LOOKS = tuple(Look(rounds, rounds / 300) for rounds in (33, 45, 100, 101, 200, 300))


def drawn_p_values(runs: int) -> np.ndarray:
    """Return the two-sided p value of each run at each look; nothing is there to be found."""
    sums = np.cumsum(np.random.default_rng(1).standard_normal((runs, LOOKS[-1].rounds)), axis=1)
    rounds = np.array([look.rounds for look in LOOKS])
    return 2 * special.ndtr(-np.abs(sums[:, rounds - 1] / np.sqrt(rounds)))


def test_a_single_look_at_the_end_may_spend_the_whole_level() -> None:
    assert nominal_levels((Look(20, 1.0),), 0.05) == pytest.approx([0.05], rel=1e-6)


def test_the_first_look_may_spend_the_share_of_the_time_that_has_passed() -> None:
    assert nominal_levels((Look(10, 0.2), Look(50, 1.0)), 0.05)[0] == pytest.approx(0.01, rel=1e-6)


def test_looks_that_share_no_rounds_to_speak_of_get_what_is_left_to_them() -> None:
    first, second = nominal_levels((Look(1, 0.5), Look(10**6, 1.0)), 0.05)
    assert second == pytest.approx(0.025 / (1 - first), rel=1e-2)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_all_looks_together_err_as_often_as_the_level_says(level: float) -> None:
    alarms = (drawn_p_values(20_000) <= nominal_levels(LOOKS, level)).any(axis=-1).mean()
    assert alarms == pytest.approx(level, abs=4 * (level / 20_000) ** 0.5)


def test_a_sequential_p_value_is_at_most_a_level_where_a_look_reaches_what_the_level_asks_of_it() -> None:
    p_values = drawn_p_values(2000)
    for level in (0.025, 0.2):
        reached = (p_values <= nominal_levels(LOOKS, level)).any(axis=-1)
        assert ((sequential_p_values(p_values, LOOKS) <= level * (1 + 1e-9)) == reached).all()


def test_what_a_look_has_found_is_not_lost_by_later_looks() -> None:
    p_values = np.array([1e-12, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert sequential_p_values(p_values, LOOKS) <= 1e-6


def test_a_look_so_early_that_it_may_spend_next_to_nothing_finds_nothing() -> None:
    assert nominal_levels((Look(5, 1e-300), Look(10, 1.0)), 0.05) == pytest.approx([0, 0.05], abs=1e-6)
