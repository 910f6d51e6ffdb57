"""A search within its time: trials while there is time for them, and then rounds that only confirm the choice."""

from collections.abc import Callable
from typing import Protocol

from loadtest.tune.history import History
from loadtest.tune.search import Search, Trial, best
from loadtest.tune.space import Candidate

# Of the time: trials of the best candidate that the choice has not seen.
CONFIRM_SHARE = 0.25
# Both sides' services are started for each, and it has so many rounds: what differs from start to start is in the
# interval, which is of the trials' means. Fewer trials confirm nothing.
CONFIRM_ROUNDS, CONFIRM_TRIALS = 2, 3


class Measurer(Protocol):
    """What measures a candidate beside the default."""

    def measure(self, candidate: Candidate, rounds: int, number: int, *, fresh: bool) -> Trial:
        """Return a trial of so many rounds; `number`: of rounds before; `fresh`: both sides are started for it.

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
        needed_s = CONFIRM_TRIALS * CONFIRM_ROUNDS * round_s
        if left_s() <= max(confirm_s, needed_s) + rounds * round_s:
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
