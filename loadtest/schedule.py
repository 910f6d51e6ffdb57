"""When the requests of an open loop are due: drawn before the measurement begins, so that no reply can change it."""

import numpy as np

from servepath.results.names import OPEN_CONSTANT

NS_PER_S = 1e9


def arrivals(load_model: str, rate: float, count: int, seed: str) -> list[int]:
    """Return `count` send times in nanoseconds from the start, at `rate` a second on average, ascending.

    Poisson: exponential gaps, drawn from the seed. Constant: equal gaps. The same seed gives the same moments, so that
    all measurements of a round are loaded alike.
    """
    if load_model == OPEN_CONSTANT:
        gaps = np.full(count, NS_PER_S / rate)
    else:
        gaps = np.random.default_rng(list(seed.encode())).exponential(NS_PER_S / rate, count)
    moments: list[int] = np.cumsum(gaps).astype(np.int64).tolist()
    return moments


def share(moments: list[int], worker: int, workers: int) -> list[int]:
    """Return one worker's part of the schedule; all workers' parts together are the schedule."""
    return moments[worker::workers]
