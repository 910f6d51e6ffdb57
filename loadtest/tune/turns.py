"""Paths one after another, each in its share of the time; one that cannot be measured does not end the others'."""

import sys
import time
from collections.abc import Callable, Sequence

from loadtest.plan import ServingPath
from loadtest.run import RunError
from servepath.artifacts.manifest import ArtifactError
from servepath.settings import SettingsError


def in_turn(
    paths: Sequence[ServingPath],
    budget_s: float,
    tune: Callable[[ServingPath, float], int],
    signal: Callable[[], int | None],
) -> int:
    """Tune paths and return the exit code. tune: one in so many seconds; returns the signal that ended it, or 0.

    signal: that has come, if one has: a path that failed may have been stopping its services then.
    """
    end_s, code = time.monotonic() + budget_s, 0
    for number, path in enumerate(paths):
        share_s = (end_s - time.monotonic()) / (len(paths) - number)
        if share_s <= 0:
            sys.stderr.write(f"servepath tune: {path}: no time left: give it more --budget\n")
            code = 1
            continue
        try:
            ended = tune(path, share_s)
        except (SettingsError, ArtifactError, RunError, OSError) as error:
            sys.stderr.write(f"servepath tune: {path}: {error}\n")
            ended, code = signal() or 0, 1
        if ended:
            return 128 + ended
    return code
