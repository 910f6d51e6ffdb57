"""What one block of load shows of the settings under it, as the goal counts it: larger is better."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from loadtest.capacity.certify import TAIL, least_over
from loadtest.capacity.step import requests_in, wrong_in
from servepath.results.thresholds import LATE_NS, MAX_LATE_SHARE

# A window of requests at most 1 % of which are over the objective is well.
WINDOW, SHORTEST_WINDOW = 100, 20
MAX_ERRORS = 0.01


class Block(NamedTuple):
    """A block's figures. value: None where it has none. over: requests over the objective. out: what is wrong with it.

    limited: at a rising rate, requests that are over were over because they were sent late; at a steady one, more were
    sent late than in a valid load test. failing: it is out since requests fail.
    """

    value: float | None
    requests: int
    over: int
    limited: bool
    out: str
    failing: bool = False


def at_rising_rate(table: pa.Table, slo_us: float, rate_at: Callable[[float], float], window: int = WINDOW) -> Block:
    """Return the rate at which requests that come ever faster were last well. rate_at: by seconds from the first."""
    found = requests_in(table)
    over = found.response_us > slo_us
    counted = np.concatenate([[0], np.cumsum(over)])
    well = np.flatnonzero(counted[window:] - counted[:-window] <= TAIL * window)
    value = rate_at(float(found.due_ns[well[-1] + window - 1]) / 1e9) if len(well) else None
    limited = bool(over.any()) and bool(np.median(found.service_us[over]) <= slo_us)
    wrong, failing = wrong_answers(table), not found.ok.any()
    out = wrong or (f"all its requests fail ({_commonest(found.code)})" if failing else "")
    return Block(value, len(over), int(over.sum()), limited, out, failing and not wrong)


def at_steady_rate(table: pa.Table, slo_us: float, *, cpu_s: float | None = None) -> Block:
    """Return requests a second of one caller at the median response time or, with `cpu_s`, requests a CPU second."""
    found = requests_in(table)
    ok = found.ok & ~found.wrong
    out = wrong_answers(table)
    failing = not out and bool((~found.ok).mean() > MAX_ERRORS)
    if failing:
        out = f"{(~found.ok).mean():.0%} of its requests fail ({_commonest(found.code[~found.ok])})"
    over = int((found.response_us > slo_us).sum())
    value = None
    if cpu_s is not None:
        value = table.num_rows / cpu_s if cpu_s > 0 else None
    elif ok.any():
        value = float(1e6 / np.median(found.response_us[ok]))
    limited = bool((found.late_ns > LATE_NS).mean() > MAX_LATE_SHARE)
    return Block(value, len(ok), over, limited=limited, out=out, failing=failing)


def wrong_answers(*tables: pa.Table) -> str:
    """Return how many of all answers are wrong, in words; "" where none is."""
    wrong = sum(int(wrong_in(table).sum()) for table in tables)
    return f"{wrong} of {sum(table.num_rows for table in tables)} answers are wrong" if wrong else ""


def misses(blocks: Mapping[str, list[Block]], default: str, candidate: str) -> bool:
    """Return whether the candidate's p99 is certainly over the objective, and the default's is not."""

    def certain(side: str) -> bool:
        count = sum(block.requests for block in blocks[side])
        return count > 0 and sum(block.over for block in blocks[side]) >= least_over(count)

    return certain(candidate) and not certain(default)


def _commonest(codes: "np.ndarray[tuple[int], np.dtype[Any]]") -> str:
    ((code, _),) = Counter(codes.tolist()).most_common(1)
    return str(code)
