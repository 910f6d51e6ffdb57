"""What the rows of one trial show: counts, the p99, and whether it is the server or the instrument that failed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadtest.capacity.certify import TAIL, few_errors
from loadtest.capacity.search import Outcome, Result, verdict
from loadtest.open_loop import OVERLOADED
from loadtest.recorder import MEASURE
from servepath.results.thresholds import LATE_NS, MAX_CPU, MAX_LATE_SHARE, MIN_P99_SAMPLES


class Requests(NamedTuple):
    """The requests of one measurement in the order of their schedule. due_ns: from the first; times in us.

    An error has infinite times; one that the generator did not send has taken the server no time.
    """

    due_ns: npt.NDArray[np.int64]
    late_ns: npt.NDArray[np.int64]
    response_us: npt.NDArray[np.float64]
    service_us: npt.NDArray[np.float64]
    ok: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    code: npt.NDArray[np.str_]


def requests_in(table: pa.Table) -> Requests:
    """Read a measurement's rows."""
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in NAMES}
    mine = columns["phase"] == MEASURE
    order = np.argsort(columns["scheduled_ns"][mine], kind="stable")
    due, sent, response, service, ok, wrong, code = (columns[name][mine][order] for name in NAMES[:-1])
    return Requests(
        due - (due[0] if len(due) else 0),
        sent - due,
        np.where(ok, response, np.inf),
        np.where(ok.astype(bool) | (code == OVERLOADED), service, np.inf),
        ok.astype(bool),
        wrong.astype(bool),
        code.astype(str),
    )


def wrong_in(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which answers are wrong, those before the measuring began among them: one proves that the path errs."""
    found: npt.NDArray[np.bool_] = table["wrong"].to_numpy(zero_copy_only=False).astype(bool)
    return found


NAMES = ("scheduled_ns", "sent_ns", "response_us", "service_us", "ok", "wrong", "code", "phase")


class Step(NamedTuple):
    """one trial at one rate, as capacity.json has it.

    p99_ms: by nearest rank; None below its minimum sample count and for errors.
    """

    rate_rps: float
    outcome: Outcome
    p99_ms: float | None
    requests: int
    over: int
    errors: int
    wrong_answers: int
    late_share: float
    generator_cpu: float
    stopped: str

    @property
    def result(self) -> Result:
        """Return the result for the search."""
        return Result(self.outcome, self.over, self.requests)

    def to_dict(self) -> dict[str, Any]:
        """Return the form of capacity.json."""
        return self._asdict() | {"met": self.outcome is Outcome.MET}


def judge(table: pa.Table, facts: Sequence[Mapping[str, Any]], *, rate: float, slo_us: float, planned: int) -> Step:
    """Evaluate a trial's rows. facts: of each worker."""
    found = requests_in(table)
    count, over = len(found.ok), int((found.response_us > slo_us).sum())
    late, cpu = int((found.late_ns > LATE_NS).sum()), max(fact["generator_cpu"] for fact in facts)
    step = Step(
        rate,
        verdict(over, count, planned),
        p99_ms(found.response_us),
        count,
        over,
        int((~found.ok).sum()),
        int(wrong_in(table).sum()),
        late / max(count, 1),
        cpu,
        next((fact["stopped"] for fact in facts if fact["stopped"]), ""),
    )
    server_over = int((found.service_us > slo_us).sum())
    return step._replace(outcome=_outcome(step, server_over))


def _outcome(step: Step, server_over: int) -> Outcome:
    """Correct the outcome that the counts alone suggest.

    The generator's lateness is in the response times, so what is met in spite of it is met; but what is not met may be
    its fault: it is invalid where the generator was late or busy, or where the time from sending alone would do.
    """
    if step.wrong_answers:
        return Outcome.WRONG
    if step.outcome is Outcome.MET:
        return Outcome.MET if few_errors(step.errors, step.requests) else Outcome.UNSURE
    by_lateness = step.over > TAIL * step.requests >= server_over
    if unfit(step) or not step.requests or by_lateness:
        return Outcome.INVALID
    return Outcome.NOT_MET if step.stopped else step.outcome


def unfit(step: Step) -> str:
    """Return why the generator was not good enough, or ""."""
    if step.late_share > MAX_LATE_SHARE:
        return f"the generator sent {step.late_share:.1%} more than 1 ms late"
    return f"the generator used {step.generator_cpu:.0%} of a core" if step.generator_cpu > MAX_CPU else ""


def p99_ms(response_us: npt.NDArray[np.float64]) -> float | None:
    """Return the p99 as report/percentiles.py has it, to a microsecond."""
    if len(response_us) < MIN_P99_SAMPLES:
        return None
    value_us = float(np.sort(response_us)[math.ceil(99 * len(response_us) / 100) - 1])
    return round(value_us / 1e3, 3) if math.isfinite(value_us) else None
