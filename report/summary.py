"""From a run's folder to its Summary: read, work out the figures, doubt, and only then judge; summary.json holds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import recommendation_json, schema, sequential, validity
from report.candidates import Evidence
from report.recommendation import Question, Recommendation, question_of, recommend
from report.rows import read_run
from report.stats import PathResult, latencies, statistics
from report.verdicts import Verdict
from servepath.results.names import CAPACITY_FILE, COST_FILE

# The form of summary.json: 1 had no number.
SUMMARY_SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Summary:
    """A run: facts, rows in the order of their names, the no-op server, what stands against it, the verdicts.

    No reason means valid; a run that is not valid has no verdict. answered: every path returned correct responses,
    whether or not the times can be trusted. capacity, and the content of scorecard.json, are None until measured.
    question: what the recommendation is for, None for what the run itself asks.
    """

    facts: Mapping[str, Any]
    rounds: tuple[int, ...]
    rows: tuple[PathResult, ...]
    no_op: PathResult | None
    reasons: tuple[str, ...]
    answered: bool
    verdicts: tuple[Verdict, ...] = ()
    capacity: Mapping[str, Any] | None = None
    scorecard: Mapping[str, Any] | None = None
    question: Question | None = None

    @property
    def valid(self) -> bool:
        """Return whether the numbers may be used."""
        return not self.reasons

    @property
    def open_loop(self) -> bool:
        """Return whether there are response times."""
        return any(row.lateness is not None for row in self.rows)

    @property
    def evidence(self) -> Evidence:
        """Return what a recommendation rests on."""
        return Evidence(
            facts=self.facts, rows=self.rows, capacity=self.capacity, scorecard=self.scorecard, valid=self.valid
        )

    @property
    def recommendation(self) -> Recommendation:
        """Return which path to take for the question. Raises ReportError for a path that the run does not have."""
        return recommend(self.evidence, self.question or question_of(self.evidence))


def build(folder: Path) -> Summary:
    """Return the summary of a run. Raises ReportError."""
    run = read_run(folder)
    rows, no_op = statistics(run)
    wrong = validity.answers(run, rows)
    reasons = (*wrong, *validity.timing_reasons(run, rows, no_op))
    verdicts: tuple[Verdict, ...] = ()
    if not reasons:  # a run that proves nothing gives no verdict
        labels = {row.name.key: row.label for row in rows}
        verdicts = sequential.judge_run(run.facts, latencies(rows, run.rounds), labels)
    capacity = _attachment(folder / CAPACITY_FILE, "capacity")
    scorecard = _attachment(folder / COST_FILE, "scorecard")
    capacity = None if capacity is None else capacity["capacity"]
    return Summary(run.facts, run.rounds, rows, no_op, reasons, not wrong, verdicts, capacity, scorecard)


def _attachment(path: Path, name: str) -> Mapping[str, Any] | None:
    """Read what another command adds to a run later (report/schemas/NAME.schema.json), None while it has not."""
    return schema.read(path, name, missing="") if path.exists() else None


def gateway_overhead(rows: tuple[PathResult, ...]) -> list[dict[str, Any]]:
    """Return p50 through the gateway less p50 direct, in ms, for each path that has both. It describes, no verdict."""
    p50_ms = {row.name: row.p50_ms for row in rows}
    found = []
    for row in rows:
        direct_ms = p50_ms.get(row.name._replace(via="direct"))
        if row.via == "gateway" and not row.side and row.p50_ms is not None and direct_ms is not None:
            difference_ms = round(row.p50_ms - direct_ms, 4)
            found.append({"model": row.model, "stack": row.stack, "gateway_less_direct_p50_ms": difference_ms})
    return found


def baseline_overhead(no_op: PathResult | None) -> dict[str, Any] | None:
    """Return the baseline overhead: what the load generator shows against a server that answers at once."""
    if no_op is None:
        return None
    names = ("requests", "p50_ms", "p99_ms", "response_p50_ms", "response_p99_ms", "lateness", "generator_cpu")
    return {name: value for name, value in no_op.to_dict().items() if name in names}


def to_dict(summary: Summary) -> dict[str, Any]:
    """Return the content of summary.json."""
    facts = summary.facts
    return {
        "valid": summary.valid,
        "schema": SUMMARY_SCHEMA,
        "all_responses_correct": summary.answered,
        "reasons": list(summary.reasons),
        "recommendation": recommendation_json.to_dict(summary.recommendation),
        "run": facts["run"],
        "started": facts["started"],
        "git_commit": facts["git_commit"],
        "host": facts["host"],
        "load_model": facts["load_model"],
        "seed": facts["seed"],
        "arguments": facts["arguments"],
        **{name: facts[name] for name in ("payloads", "sequential") if name in facts},
        "rounds": len(summary.rounds),
        "percentiles": "nearest rank of correct responses, pooled over the rounds, warm-up excluded; p*_ms are service "
        "times, response_p*_ms response times from the schedule",
        "paths": [row.to_dict() for row in summary.rows],
        "baseline_overhead": baseline_overhead(summary.no_op),
        "comparison": gateway_overhead(summary.rows),
        "verdicts_on": "response time" if summary.open_loop else "service time",
        "verdicts": [verdict.to_dict() for verdict in summary.verdicts],
        "capacity": summary.capacity,
        "scorecard": None if summary.scorecard is None else summary.scorecard["scorecard"],
    }
