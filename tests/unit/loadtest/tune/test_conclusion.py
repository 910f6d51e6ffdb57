import math

import pytest

from loadtest.tune.conclusion import CHANCE, chance_of, conclude, half_width
from loadtest.tune.search import Round, Trial
from loadtest.tune.telling import conclusion_lines, minutes, trial_line

FOUR = (("threads", 4),)


def rounds(*ratios: float) -> tuple[Round, ...]:
    return tuple(Round(100.0, 100.0 * ratio) for ratio in ratios)


def test_the_ratio_is_of_the_rounds_that_the_choice_did_not_look_at() -> None:
    chosen = Trial(FOUR, rounds(2.0, 2.0, 2.0, 2.0, 2.0))
    after = [Trial(FOUR, rounds(1.2 * each, 1.2 / each), confirming=True) for each in (1.01, 1.02, 1.03)]

    found = conclude([chosen, *after])

    assert found.ratio == pytest.approx(1.2, rel=0.01)
    assert (found.confirmed, found.rounds, found.settings) == (True, 6, FOUR)


def test_rounds_of_one_start_are_one_observation() -> None:
    starts = [Trial(FOUR, rounds(*[ratio] * 20), confirming=True) for ratio in (1.1, 1.2, 1.3)]

    found = conclude([Trial(FOUR, rounds(1.2, 1.2)), *starts])

    half = half_width([math.log(ratio) for ratio in (1.1, 1.2, 1.3)], 3, chance_of(1))
    assert math.log(found.high / found.ratio) == pytest.approx(half)
    assert found.low < 1


def test_looking_again_takes_more_to_be_sure_and_all_looks_together_miss_in_five_percent() -> None:
    trials = [Trial(FOUR, rounds(ratio, ratio), confirming=True) for ratio in (1.19, 1.2, 1.21)]
    trials = [Trial(FOUR, rounds(1.2, 1.2)), *trials]

    assert [conclude(trials, look).settings for look in (1, 6)] == [FOUR, ()]
    assert chance_of(1) == pytest.approx(0.04)
    assert chance_of(2) == pytest.approx(0.005)
    assert sum(chance_of(look) for look in range(1, 99)) <= CHANCE * (1 + 1e-9)


def test_without_enough_of_them_all_rounds_count_and_the_default_stays() -> None:
    found = conclude([Trial(FOUR, rounds(1.5, 1.5, 1.4)), Trial(FOUR, rounds(1.5, 1.6), confirming=True)])

    assert (found.confirmed, found.rounds, found.settings) == (False, 5, ())
    assert found.low > 1
    assert conclusion_lines(found)[1:] == [
        "not confirmed by 3 starts of its own: give it more --budget",
        "that may be no better than the default: it stays",
    ]


def test_too_few_rounds_bound_nothing_so_the_default_stays() -> None:
    found = conclude([Trial(FOUR, rounds(1.5, 1.5))])

    assert (found.low, found.high, found.settings) == (0.0, math.inf, ())
    assert conclusion_lines(found)[0] == "threads 4: 1.50 times the default, 2 rounds"
    assert conclusion_lines(found)[-1] == "that may be no better than the default: it stays"


def test_an_interval_is_students() -> None:
    # t of 4 degrees of freedom at 97.5 %: 2.776.
    assert half_width([1.0, 2.0, 3.0, 4.0, 5.0], 5) == pytest.approx(2.7764 * math.sqrt(2.5) / math.sqrt(5), rel=1e-4)


def test_a_generator_that_did_not_keep_up_is_said() -> None:
    limited = tuple(each._replace(limited=True) for each in rounds(1.5, 1.5, 1.5, 1.5, 1.51))

    said = conclusion_lines(conclude([Trial(FOUR, limited)]))

    assert said[-1] == "in 5 rounds the load generator did not keep up: the true ratio may be larger"


def test_a_trial_is_one_line_with_the_best_so_far_and_the_time_that_is_left() -> None:
    good, bad = Trial(FOUR, rounds(1.5, 1.5)), Trial((("threads", 1),), (), "2 of 900 answers are wrong")

    assert trial_line(good, [good], 200.0) == (
        "threads 4: 1.50 times the default in 2 rounds; best threads 4 1.50; 3:20 left"
    )
    assert trial_line(bad, [bad], 9.0) == "threads 1: out, 2 of 900 answers are wrong; 0:09 left"
    again = good._replace(confirming=True)
    assert trial_line(again, [good, again], 0.0).startswith("confirming threads 4: 1.50 times")
    poor = Trial(FOUR, rounds(0.5, 0.5))
    assert trial_line(poor, [poor], 1.0) == "threads 4: 0.50 times the default in 2 rounds; none better yet; 0:01 left"


def test_no_time_left_is_never_below_zero() -> None:
    assert [minutes(each) for each in (-3.0, 0.0, 61.0, 600.0)] == ["0:00", "0:00", "1:01", "10:00"]
