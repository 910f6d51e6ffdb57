"""One run as numbers: what every renderer shows and summary.json holds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from report.answers import Answers, Array, Identity, Parts, SchedulingDelay, Waiting
from report.percentiles import percentile
from report.rows import NO_OP, MeasurementName, Rows, name_of
from report.verdicts import Verdict

EMBEDDED = "embedded"
NOBODY = Identity("", "", 0, "")
# The form of summary.json: 1 had no number.
SUMMARY_SCHEMA = 2
PERCENTILES = {"p50_ms": "50", "p90_ms": "90", "p99_ms": "99", "p999_ms": "99.9"}
# What only renderers need of a Row.
NOT_IN_JSON = ("service_ms", "identities", "answers", "latencies_us")


def engine_label(engine: str, version: str) -> str:
    """Return engine and version in words; an embedded stand-in is never called by the product's name."""
    return f"{EMBEDDED} ({version})" if engine == EMBEDDED else f"{engine} {version}"


def commit_label(commit: str) -> str:
    """Return a commit's first letters, and whether files differed from it."""
    digits, dirty, _ = commit.partition("-dirty")
    return f"{digits[:10]}{dirty}"


@dataclass(frozen=True, slots=True)
class Row:
    """One path reached one way: its measured requests of all counted rounds, warm-up left out.

    identities: everyone who answered, the first of them also in the single fields.
    p50_ms ... p999_ms are service times (reply received - request sent), response_... are response times (reply
    received - scheduled send; None in a closed loop). Both are of right answers only, pooled over the rounds,
    nearest-rank, None below their minimum sample count, and None when one answer was wrong: such a path has no latency.
    gateway_share: of the service time, how much the gateway reported as its own. None where nothing can be said.
    generator_cpu: share of one core that the load's busiest process used, the mean over the rounds.
    latencies_us: what verdicts are about, by round: response times, in a closed loop service times.
    """

    model: str
    stack: str
    via: str
    side: str
    engine: str
    engine_version: str
    version: int
    sha256: str
    load_model: str
    rate_rps: float
    rounds: int
    requests: int
    errors: int
    wrong_answers: int
    throughput_rps: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    response_p50_ms: float | None
    response_p90_ms: float | None
    response_p99_ms: float | None
    response_p999_ms: float | None
    waiting_caller: Waiting | None
    gateway_p50_us: float | None
    gateway_share: float | None
    parts: Parts | None
    lateness: SchedulingDelay | None
    generator_cpu: float | None
    error_codes: Mapping[str, int]
    warmup_requests: int
    warmup_wrong_answers: int
    identities: tuple[Identity, ...]
    answers: Answers
    latencies_us: Mapping[int, Array]

    @property
    def name(self) -> MeasurementName:
        """Return the row's measurement."""
        return MeasurementName(self.model, self.stack, self.via, self.side)

    @property
    def way(self) -> str:
        """Return how the path was reached, and its side, if any."""
        return " ".join(filter(None, (self.via, self.side)))

    @property
    def path(self) -> str:
        """Return MODEL@STACK."""
        return f"{self.model}@{self.stack}"

    @property
    def server(self) -> str:
        """Return MODEL@STACK, and its side, if any: what has a colour of its own."""
        return " ".join(filter(None, (self.path, self.side)))

    @property
    def engine_label(self) -> str:
        """Return engine and version, or that there is none."""
        return engine_label(self.engine, self.engine_version) if self.engine else "nobody answered"

    @property
    def label(self) -> str:
        """Return the row's name in sentences: path, way, engine and version."""
        return f"{self.name} [{self.engine_label}]"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the single latencies and the identities."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in NOT_IN_JSON}
        named = {
            name: value._asdict()
            for name, value in values.items()
            if isinstance(value, SchedulingDelay | Parts | Waiting)
        }
        return values | named


@dataclass(frozen=True, slots=True)
class Summary:
    """A run: facts, rows in the order of their names, the no-op server, what stands against it, the verdicts.

    No reason means valid; a run that is not valid has no verdict. answered: every path returned correct responses,
    whether or not the times can be trusted. capacity, and the content of scorecard.json, are None until measured.
    """

    facts: Mapping[str, Any]
    rounds: tuple[int, ...]
    rows: tuple[Row, ...]
    null: Row | None
    reasons: tuple[str, ...]
    answered: bool
    verdicts: tuple[Verdict, ...] = ()
    capacity: Mapping[str, Any] | None = None
    scorecard: Mapping[str, Any] | None = None

    @property
    def valid(self) -> bool:
        """Return whether the numbers may be used."""
        return not self.reasons

    @property
    def cards(self) -> tuple[Mapping[str, Any], ...]:
        """Return the scorecard's cards, one for each path, none until measured."""
        return () if self.scorecard is None else tuple(self.scorecard["scorecard"])

    @property
    def open_loop(self) -> bool:
        """Return whether there are response times."""
        return any(row.lateness is not None for row in self.rows)


def summarise(run: Rows) -> tuple[tuple[Row, ...], Row | None]:
    """Return one Row for each path and way that has a table in a counted round, and the no-op server's or None."""
    rows = {}
    for name in sorted(run.tables):
        tables = {number: run.tables[name][number] for number in run.rounds if number in run.tables[name]}
        if tables:
            rows[name] = _row(run, name, Answers(tables), len(tables))
    null = rows.pop(NO_OP, None)
    return tuple(rows.values()), null


def latencies(rows: Iterable[Row], rounds: Sequence[int]) -> dict[str, list[Array]]:
    """Return the latencies by the measurement's key: an array for each round, empty for a missing one."""
    none = np.empty(0)
    return {row.name.key: [row.latencies_us.get(number, none) for number in rounds] for row in rows}


def _row(run: Rows, name: MeasurementName, answers: Answers, rounds: int) -> Row:
    identities = answers.identities()
    who = identities[0] if identities else NOBODY
    service_us = np.sort(answers.latencies_us("service_us"))
    response_us = np.sort(answers.latencies_us("response_us"))
    gateway_us = np.sort(answers.latencies_us("gateway_us"))
    return Row(
        **name._asdict(),
        **who._asdict(),
        load_model=run.facts["load_model"],
        rate_rps=float(run.facts["arguments"]["rate"]),
        rounds=rounds,
        requests=int(answers.measured.sum()),
        errors=int((answers.measured & ~answers.ok).sum()),
        wrong_answers=int((answers.measured & answers.wrong).sum()),
        throughput_rps=answers.throughput_rps(),
        **{key: _milliseconds(service_us, percent) for key, percent in PERCENTILES.items()},  # type: ignore[arg-type]
        **{f"response_{key}": _milliseconds(response_us, percent) for key, percent in PERCENTILES.items()},  # type: ignore[arg-type]
        waiting_caller=_waiting_caller(answers) if run.open_loop else None,
        gateway_p50_us=percentile(gateway_us, "50"),
        gateway_share=round(float(gateway_us.sum() / service_us.sum()), 4) if len(gateway_us) else None,
        parts=answers.parts(),
        lateness=answers.lateness(),
        generator_cpu=_generator_cpu(run, name),
        error_codes=answers.error_codes(),
        warmup_requests=int((~answers.measured).sum()),
        warmup_wrong_answers=int((~answers.measured & answers.wrong).sum()),
        identities=identities,
        answers=answers,
        latencies_us=answers.by_round_us("response_us" if run.open_loop else "service_us"),
    )


def _milliseconds(ordered_us: Array, percent: str) -> float | None:
    found = percentile(ordered_us, percent)
    return None if found is None else round(found / 1e3, 4)


def _waiting_caller(answers: Answers) -> Waiting | None:
    ordered_us = np.sort(answers.one_waiting_caller_us())
    p99_ms = _milliseconds(ordered_us, "99")
    if p99_ms is None:
        return None
    # The true p99 is above this rank in 1 % of cases: 2.33 standard deviations of how many samples are below it.
    count = len(ordered_us)
    high = math.ceil(0.99 * count + 2.33 * math.sqrt(0.99 * 0.01 * count))
    return Waiting(p99_ms, round(float(ordered_us[min(high, count) - 1]) / 1e3, 4))


def _generator_cpu(run: Rows, name: MeasurementName) -> float | None:
    shares = [
        measurement["generator_cpu"]
        for measurement in run.facts["measurements"]
        if name_of(measurement) == name and measurement["round"] in run.rounds
    ]
    return round(sum(shares) / len(shares), 4) if shares else None


def compare(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Return p50 through the gateway less p50 direct, in ms, for each path that has both. It describes, no verdict."""
    p50_ms = {row.name: row.p50_ms for row in rows}
    found = []
    for row in rows:
        direct_ms = p50_ms.get(row.name._replace(via="direct"))
        if row.via == "gateway" and not row.side and row.p50_ms is not None and direct_ms is not None:
            difference_ms = round(row.p50_ms - direct_ms, 4)
            found.append({"model": row.model, "stack": row.stack, "gateway_less_direct_p50_ms": difference_ms})
    return found


def baseline_overhead(null: Row | None) -> dict[str, Any] | None:
    """Return the baseline overhead: what the load generator shows against a server that answers at once."""
    if null is None:
        return None
    names = ("requests", "p50_ms", "p99_ms", "response_p50_ms", "response_p99_ms", "lateness", "generator_cpu")
    return {name: value for name, value in null.to_dict().items() if name in names}


def to_dict(summary: Summary) -> dict[str, Any]:
    """Return the content of summary.json."""
    facts = summary.facts
    return {
        "valid": summary.valid,
        "schema": SUMMARY_SCHEMA,
        "all_responses_correct": summary.answered,
        "reasons": list(summary.reasons),
        "run": facts["run"],
        "started": facts["started"],
        "git_commit": facts["git_commit"],
        "host": facts["host"],
        "load_model": facts["load_model"],
        "seed": facts["seed"],
        "arguments": facts["arguments"],
        "rounds": len(summary.rounds),
        "percentiles": "nearest rank of correct responses, pooled over the rounds, warm-up excluded; p*_ms are service "
        "times, response_p*_ms response times from the schedule",
        "paths": [row.to_dict() for row in summary.rows],
        "baseline_overhead": baseline_overhead(summary.null),
        "comparison": compare(summary.rows),
        "verdicts_on": "response time" if summary.open_loop else "service time",
        "verdicts": [verdict.to_dict() for verdict in summary.verdicts],
        "capacity": summary.capacity,
        "scorecard": None if summary.scorecard is None else list(summary.cards),
    }
