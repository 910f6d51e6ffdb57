"""The rule's error rates on a few simulated runs; `python -m studies.sequential` has many."""

import math

import numpy as np
import pytest
from scipy import special

from report.intervals import Array
from report.spending import Look
from studies.sequential.__main__ import FIXED_KINDS, SHORT, main
from studies.sequential.covariate import width
from studies.sequential.kinds import shorter
from studies.sequential.rules import RULES
from studies.sequential.trial import Length, Outcome, draw, play, schedule

RULE = RULES["in proportion to time"]
WANTED = math.log(1.05)
RUNS = 200
# A test must not fail by chance, nor pass a rule that errs far more often: of 200 runs, more alarms than that have a
# chance of 1.3 % where the claimed 2.5 % are true; as few covered and told are 4 standard deviations below 95 and 90 %.
MOST_ALARMS, FEWEST_COVERED, FEWEST_TOLD = 10, 177, 163


def outcome(name: str, length: Length = SHORT, injected: float = WANTED) -> Outcome:
    drawn = draw(shorter(FIXED_KINDS[name]), RUNS, length, injected, np.random.default_rng(1))
    return play(drawn, length, RULE, WANTED, injected)


@pytest.mark.parametrize("name", ["heavy tails", "rounds that resemble", "validation runs", "drift"])
def test_few_alarms_are_false_5_percent_is_found_and_intervals_hold_the_truth(name: str) -> None:
    found = outcome(name)
    assert found.alarm.sum() <= MOST_ALARMS
    assert found.covered.sum() >= FEWEST_COVERED
    assert found.told.sum() >= FEWEST_TOLD


def test_a_quiet_machine_knows_sooner_than_a_noisy_one_which_says_that_it_is() -> None:
    quiet, noisy = outcome("correlated measurements"), outcome("stored run")
    assert quiet.known.all()
    assert quiet.rounds.mean() < noisy.rounds.mean() / 5
    assert noisy.told.sum() >= FEWEST_TOLD


def test_published_bounds_of_five_looks_come_out() -> None:
    looks: tuple[Look, ...] = tuple(Look(number, number / 5) for number in range(1, 6))

    def z_values(rule: str) -> Array:
        return -special.ndtri(RULES[rule](looks, 0.05) / 2)

    # Reboussin, DeMets, Kim, Lan, Controlled Clinical Trials 21, 2000: the program ld98, two-sided 0.05.
    assert z_values("O'Brien-Fleming-like") == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert z_values("Pocock-like") == pytest.approx([2.4380, 2.4268, 2.4102, 2.3966, 2.3859], abs=2e-4)


def test_the_no_op_server_tells_nothing_of_sides_that_feel_the_machine_alike() -> None:
    assert width(FIXED_KINDS["stored run"], (1.0, 1.0), 300, 1) == pytest.approx(1, abs=0.01)


def test_looks_come_at_intervals_and_the_last_at_the_end() -> None:
    assert schedule(33, 12, 60) == (Look(33, 0.55), Look(45, 0.75), Look(57, 0.95), Look(60, 1.0))


@pytest.mark.slow
def test_the_command_prints_a_line_for_each_kind_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", "5"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| stored run | ") for line in lines) == len(RULES) + 2 + 2
