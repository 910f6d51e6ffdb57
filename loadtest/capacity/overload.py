"""Beyond the capacity: what a path still answers in time, what it refuses, and how soon it is well again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from loadtest.capacity.certify import TAIL
from loadtest.capacity.step import Requests, requests_in
from loadtest.open_loop import OVERLOADED
from servepath.results.thresholds import LATE_NS, MAX_CPU, MAX_LATE_SHARE

FACTORS = (1.5, 3.0)
OVERLOAD_S = 2.0
# Then at half of the capacity.
AFTER_S, AFTER_SHARE = 4.0, 0.5
# Well again: from here on a window of this length has at most 1 % that are not right and in time.
WELL_S = 0.5
# Codes that are not a refusal: nobody answered in time, and what was not sent as too many requests were in flight.
NOT_REFUSED = ("OK", "DEADLINE_EXCEEDED", OVERLOADED)


def judge(
    table: pa.Table, facts: Sequence[Mapping[str, Any]], *, factor: float, overload: int, slo_us: float
) -> dict[str, Any]:
    """Evaluate an overload: the first `overload` rows in the schedule's order came at too high a rate."""
    found = requests_in(table)
    during, after = (_cut(found, part) for part in (slice(overload), slice(overload, None)))
    codes = Counter(during.code.tolist())
    lasted_s = max(int(during.due_ns[-1]), 1) / 1e9
    late_share = float((during.late_ns > LATE_NS).mean())
    cpu = max(fact["generator_cpu"] for fact in facts)
    return {
        "factor": factor,
        "rate_rps": round(overload / lasted_s, 1),
        "goodput_rps": round(int(_good(during, slo_us).sum()) / lasted_s, 1),
        "refused_share": sum(count for code, count in codes.items() if code not in NOT_REFUSED) / overload,
        "codes": dict(codes.most_common()),
        "wrong_answers": int(found.wrong.sum()),
        "recovery_s": recovery_s((after.due_ns - during.due_ns[-1]) / 1e9, _good(after, slo_us)),
        "late_share": round(late_share, 4),
        "generator_cpu": cpu,
        "valid": late_share <= MAX_LATE_SHARE and cpu <= MAX_CPU,
    }


def _cut(found: Requests, part: slice) -> Requests:
    return Requests._make(column[part] for column in found)


def _good(found: Requests, slo_us: float) -> Any:
    return found.ok & ~found.wrong & (found.response_us <= slo_us)


def recovery_s(due_s: Any, good: Any) -> float | None:
    """Return the seconds until a window of WELL_S meets the objective, or None when none does.

    due_s: of each request after the overload, from its end, ascending. good: right and in time.
    """
    if len(due_s) == 0:
        return None
    bad = np.concatenate([[0], np.cumsum(~np.asarray(good, dtype=bool))])
    ends = np.searchsorted(due_s, due_s + WELL_S)
    starts = np.arange(len(due_s))
    well = (due_s + WELL_S <= due_s[-1]) & (bad[ends] - bad[starts] <= TAIL * (ends - starts))
    return round(float(due_s[int(np.argmax(well))]), 3) if well.any() else None
