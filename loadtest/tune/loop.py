"""A search within its time: trials while there is time for them, and then rounds that only confirm the choice."""

from collections.abc import Callable
from typing import Protocol

from loadtest.tune.history import History
from loadtest.tune.search import Search, Trial, best
from loadtest.tune.space import Candidate

# Of the time: rounds of the best candidate that the choice has not seen.
CONFIRM_SHARE = 0.3
CONFIRM_ROUNDS = 3


class Measurer(Protocol):
    """What measures a candidate beside the default."""

    def measure(self, candidate: Candidate, rounds: int, number: int) -> Trial:
        """Return a trial of so many rounds; `number`: of rounds before. Raises InterruptedRun, RunError."""


def run(
    search: Search, measurer: Measurer, history: History, left_s: Callable[[], float], say: Callable[[Trial], None]
) -> None:
    """Search, confirm, and keep every trial in the history. Raises what the measurer raises."""
    confirm_s = CONFIRM_SHARE * left_s()

    def measure(candidate: Candidate, rounds: int, *, confirming: bool) -> None:
        before = sum(len(trial.rounds) for trial in history.trials)
        trial = measurer.measure(candidate, rounds, before)._replace(confirming=confirming)
        history.add(trial)
        say(trial)

    took_s = 0.0
    while left_s() > confirm_s + took_s / 2 and (step := search.next(history.trials)) is not None:
        begin_s = left_s()
        measure(*step, confirming=False)
        took_s = begin_s - left_s()
    while left_s() > took_s and (chosen := best(history.trials)) is not None:
        begin_s = left_s()
        measure(chosen, CONFIRM_ROUNDS, confirming=True)
        took_s = begin_s - left_s()
