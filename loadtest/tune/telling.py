"""What a search says while it runs: a line for each trial, with the best so far and the time that is left."""

import math
from collections.abc import Sequence

from loadtest.tune.conclusion import Conclusion
from loadtest.tune.loop import CONFIRM_TRIALS
from loadtest.tune.search import Trial, best, standings_of
from loadtest.tune.space import Candidate
from servepath.protocols.tuned import worded

MINUTE_S = 60


def minutes(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    whole = max(0, round(seconds))
    return f"{whole // MINUTE_S}:{whole % MINUTE_S:02}"


def trial_line(trial: Trial, trials: Sequence[Trial], left_s: float) -> str:
    """Return the line for a trial, the last of `trials`."""
    name = f"{'confirming ' if trial.confirming else ''}{named(trial.candidate)}"
    left = f"{minutes(left_s)} left"
    if trial.out:
        return f"{name}: out, {trial.out}; {left}"
    ratio = math.exp(trial.log_ratio)
    found = best(trials)
    standing = next((each for each in standings_of(trials) if each.candidate == found), None)
    so_far = f"best {named(standing.candidate)} {math.exp(standing.mean):.2f}" if standing else "none better yet"
    return f"{name}: {ratio:.2f} times the default in {len(trial.rounds)} rounds; {so_far}; {left}"


def conclusion_lines(found: Conclusion) -> list[str]:
    """Return what came of a search."""
    if not found.candidate:
        return [f"no settings of {found.trials} tried are better than the default: it stays"]
    looks = " over all looks" * found.confirmed
    interval = "" if math.isinf(found.high) else f", 95 % CI{looks} {found.low:.2f}..{found.high:.2f}"
    sure = f"{found.ratio:.2f} times the default{interval}, {found.rounds} rounds"
    lines = [f"{named(found.candidate)}: {sure}"]
    lines += [] if found.confirmed else [f"not confirmed by {CONFIRM_TRIALS} starts of its own: give it more --budget"]
    lines += [] if found.settings else ["that may be no better than the default: it stays"]
    if found.limited:
        lines.append(f"in {found.limited} rounds the load generator did not keep up: the true ratio may be larger")
    return lines


def named(candidate: Candidate) -> str:
    """Return a candidate as people read it."""
    return worded(dict(candidate))
