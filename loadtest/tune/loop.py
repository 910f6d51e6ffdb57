"""A search within its time: trials while there is time for them, and then rounds that only confirm the choice."""

import math
from collections.abc import Callable
from typing import Protocol

from loadtest.tune.history import History
from loadtest.tune.search import Search, Trial, best
from loadtest.tune.space import Candidate

# Of the time: rounds of the best candidate that the choice has not seen.
CONFIRM_SHARE = 0.3
# So many without a restart of the candidate: what differs from start to start is in the interval, too.
CONFIRM_ROUNDS = 3
# Fewer rounds bound nothing, and so confirm nothing.
MIN_ROUNDS = 5
CONFIRM_TRIALS = math.ceil(MIN_ROUNDS / CONFIRM_ROUNDS)


class Measurer(Protocol):
    """What measures a candidate beside the default."""

    def measure(self, candidate: Candidate, rounds: int, number: int, *, fresh: bool) -> Trial:
        """Return a trial of so many rounds; `number`: of rounds before; `fresh`: in servers that are started for it.

        Raises InterruptedRun, RunError.
        """


def run(
    search: Search, measurer: Measurer, history: History, left_s: Callable[[], float], say: Callable[[Trial], None]
) -> None:
    """Search, confirm, and keep every trial in the history. Raises what the measurer raises."""
    confirm_s = CONFIRM_SHARE * left_s()

    def measure(candidate: Candidate, rounds: int, *, confirming: bool) -> Trial:
        before = sum(len(trial.rounds) for trial in history.trials)
        trial = measurer.measure(candidate, rounds, before, fresh=confirming)._replace(confirming=confirming)
        history.add(trial)
        say(trial)
        return trial

    round_s = 0.0
    while (step := search.next(history.trials)) is not None:
        candidate, rounds = step
        if left_s() <= max(confirm_s, CONFIRM_TRIALS * CONFIRM_ROUNDS * round_s) + rounds * round_s:
            break
        begin_s = left_s()
        trial = measure(candidate, rounds, confirming=False)
        if trial.rounds:
            # With its share of a start: the longest so far, for there must be time left to confirm.
            round_s = max(round_s, (begin_s - left_s()) / len(trial.rounds))
    took_s = 0.0
    while left_s() > took_s and (chosen := best(history.trials)) is not None:
        begin_s = left_s()
        measure(chosen, CONFIRM_ROUNDS, confirming=True)
        took_s = begin_s - left_s()
