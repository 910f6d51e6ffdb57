import math
from pathlib import Path

import pytest

from loadtest.tune import loop
from loadtest.tune.conclusion import conclude
from loadtest.tune.history import History
from loadtest.tune.search import Round, Search, Trial, best
from tests.stand_in_measurer import StandInMeasurer

SPACE = {
    "max_in_flight": (1, 4, 16),
    "max_merge_rows": (1, 256),
    "threads": (1, 4),
    "engine_threads": (1, 2),
}
EFFECTS = {
    ("max_in_flight", 1): -0.3,
    ("max_in_flight", 4): 0.15,
    ("max_in_flight", 16): 0.3,
    ("max_merge_rows", 1): -0.5,
    ("max_merge_rows", 256): 0.1,
    ("threads", 1): -0.1,
    ("threads", 4): 0.0,
    ("engine_threads", 1): 0.25,
}
BEST = {"max_in_flight": 16, "engine_threads": 1}
BUDGET_S = 600.0


def tune(
    file: Path, seed: int, measurer: StandInMeasurer, budget_s: float = BUDGET_S, said: list[Trial] | None = None
) -> History:
    history = History.read(file, {"path": "m@onnx", "git_commit": "ab" * 20}, seed)
    begin_s = measurer.seconds

    def left_s() -> float:
        return budget_s - (measurer.seconds - begin_s)

    heard = [] if said is None else said
    loop.run(Search(SPACE, history.seed), measurer, history, left_s, heard.append)
    return history


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_nearly_the_best_settings_within_its_budget(tmp_path: Path, seed: int) -> None:
    measurer = StandInMeasurer(EFFECTS, noise=0.1)

    found = conclude(tune(tmp_path / "t.json", seed, measurer).trials)

    assert measurer.seconds < BUDGET_S + 30
    assert found.confirmed
    assert measurer.truth(found.candidate) > 0.9 * measurer.truth(tuple(BEST.items()))
    assert found.settings == found.candidate
    assert found.low < math.exp(measurer.truth(found.candidate)) * 1.05


@pytest.mark.parametrize("budget_s", [80.0, 90.0, 120.0, 240.0])
def test_time_is_kept_for_enough_rounds_to_confirm_the_choice(tmp_path: Path, budget_s: float) -> None:
    measurer = StandInMeasurer(dict.fromkeys(EFFECTS, 0.5), noise=0.01)

    found = conclude(tune(tmp_path / "t.json", 2, measurer, budget_s).trials)

    assert found.candidate
    assert (found.confirmed, found.settings) == (True, found.candidate)
    assert measurer.seconds < budget_s + 20


def test_every_trial_that_confirms_has_servers_of_its_own(tmp_path: Path) -> None:
    measurer = StandInMeasurer({("threads", 1): 0.7}, noise=0.01)

    trials = tune(tmp_path / "t.json", 1, measurer, 120.0).trials

    assert measurer.fresh == [trial.confirming for trial in trials]
    assert sum(measurer.fresh) > 1


def test_the_same_seed_gives_the_same_trials_and_another_one_other_trials(tmp_path: Path) -> None:
    one, again, other = (StandInMeasurer(EFFECTS, noise=0.1) for _ in range(3))
    trials = [
        tune(tmp_path / f"{number}.json", seed, measurer).trials
        for number, (seed, measurer) in enumerate([(1, one), (1, again), (2, other)])
    ]

    assert trials[0] == trials[1]
    assert one.asked[:8] != other.asked[:8]


def test_settings_that_fail_are_out_and_never_measured_again(tmp_path: Path) -> None:
    out = {("max_in_flight", 16): "3 of 900 answers are wrong", ("engine_threads", 1): "does not start: no such thing"}
    measurer = StandInMeasurer(EFFECTS, noise=0.05, out=out)

    history = tune(tmp_path / "t.json", 3, measurer)

    failed = [candidate for candidate in measurer.asked if out.keys() & set(candidate)]
    assert failed
    assert len(failed) == len(set(failed))
    assert len(failed) <= 2 * len(out)  # beside settings that were well, each fails once, if not both did
    assert {trial.out for trial in history.trials if trial.out} == set(out.values())
    assert not out.keys() & set(conclude(history.trials).candidate)


def test_where_nothing_is_better_the_default_stays_though_starts_differ(tmp_path: Path) -> None:
    """By its interval one search in forty may apply what is no better."""
    confirmed = applied = 0
    for seed in range(60):
        measurer = StandInMeasurer(dict.fromkeys(EFFECTS, 0.0), noise=0.1, seed=seed, start_noise=0.1)
        found = conclude(tune(tmp_path / f"{seed}.json", seed, measurer, 300.0).trials)
        confirmed += found.confirmed
        applied += found.settings != ()

    assert confirmed > 30
    assert applied <= 3


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, first, second = (StandInMeasurer(EFFECTS, noise=0.1) for _ in range(3))
    expected = tune(tmp_path / "whole.json", 4, whole).trials
    first.fails_after = 5
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "t.json", 4, first)
    second.running = first.running

    history = tune(tmp_path / "t.json", 4, second, budget_s=BUDGET_S - first.seconds)

    assert len(first.asked) == 5
    assert history.trials[:12] == expected[:12]
    assert first.asked + second.asked[:7] == whole.asked[:12]


def test_a_candidate_gets_more_rounds_where_it_is_among_the_best_of_so_many() -> None:
    good = Trial((("threads", 4),), (Round(100, 150), Round(100, 150)))
    bad = Trial((("threads", 1),), (Round(100, 50), Round(100, 50)))

    worse = Trial((("max_in_flight", 1),), (Round(100, 40), Round(100, 40)))

    assert Search(SPACE, 1).next([good, bad, worse]) == ((("threads", 4),), 3)
    fresh = Search(SPACE, 1).next([bad])
    assert fresh is not None
    assert fresh[1] == 2


def test_new_candidates_are_the_best_so_far_with_one_setting_changed() -> None:
    known = (("engine_threads", 1),)
    trials = [Trial(known, (Round(100, 150),) * 10)]

    fresh = Search(SPACE, 1).next(trials)

    assert fresh is not None
    assert len(set(fresh[0]) - set(known)) == 1


def test_a_space_that_is_searched_ends_the_search() -> None:
    trials = [Trial((("threads", 4),), (Round(100, 50),) * 2)]

    assert Search({"threads": (4,)}, 1).next(trials) is None
    assert Search({}, 1).next([]) is None


def test_few_rounds_far_above_weigh_less_than_many() -> None:
    many = Trial((("threads", 4),), (Round(100, 110), Round(100, 150)) * 5)
    few = Trial((("threads", 1),), (Round(100, 140),))

    assert best([many, few]) == many.candidate
    assert best([]) is None
