"""The recommendation as JSON, in summary.json and recommendation.json (report/schemas/recommendation.schema.json)."""

from typing import Any

from report.candidate import Candidate
from report.estimates import Estimate
from report.recommendation import Answer, Recommendation, standing


def to_dict(found: Recommendation) -> dict[str, Any]:
    """Return the JSON form, measured figures to six digits."""
    question = found.question
    return {
        "rate_rps": question.rate_rps,
        "slo_p99_ms": question.slo_p99_ms,
        "price": None if question.price is None else question.price._asdict(),
        "host_cores": found.cores,
        "price_per_million_whole_machine": _short(found.whole_machine),
        "answers": [_answer(found, each) for each in found.answers],
        "reasons": list(found.reasons),
        "missing": [each._asdict() for each in found.missing],
        "cannot_know": list(found.unknowns),
    }


def _answer(found: Recommendation, answer: Answer) -> dict[str, Any]:
    choice = answer.choice
    return {
        "via": answer.via,
        "recommended": None if choice is None else _candidate(found, choice.chosen),
        "chosen_by": None if choice is None else choice.basis.value,
        "too_close_to_call": [] if choice is None else [each.name for each in choice.tie],
        "surer": None if answer.surer is None else answer.surer.name,
        "runner_up": None if answer.runner_up is None else _candidate(found, answer.runner_up),
        "runner_up_cost_ratio": _estimate(answer.ratio),
        "would_change": {
            "by_rate": [{"up_to_rps": step.bound, "recommended": step.candidate.name} for step in answer.by_rate],
            "by_slo": [{"from_ms": _short(step.bound), "recommended": step.candidate.name} for step in answer.by_slo],
            "by_price": _break_even(found, answer),
            "by_version": None if choice is None else choice.chosen.version,
        },
        "candidates": [_candidate(found, each) for each in answer.candidates],
    }


def _break_even(found: Recommendation, answer: Answer) -> dict[str, Any] | None:
    share, price = answer.break_even(found.question.rate_rps), found.question.price
    if share is None or answer.runner_up is None:
        return None
    per_hour = None if price is None else _short(price.per_hour * share)
    return {"runner_up": answer.runner_up.name, "share": _short(share), "per_hour": per_hour}


def _candidate(found: Recommendation, candidate: Candidate) -> dict[str, Any]:
    rate_rps, cost = found.question.rate_rps, candidate.cost and candidate.cost.estimate
    million = found.per_million(1.0)
    return {
        "model": candidate.model,
        "stack": candidate.stack,
        "settings": candidate.settings._asdict(),
        "engine": candidate.engine,
        "precision": candidate.precision,
        "version": candidate.version,
        "sha256": candidate.sha256,
        "standing": standing(candidate, rate_rps).value,
        "p99_ms": _estimate(candidate.p99_at(rate_rps)),
        "capacity": None if candidate.capacity is None else candidate.capacity._asdict(),
        "headroom": _short(candidate.headroom(rate_rps)),
        "cores": candidate.cores_for(rate_rps),
        "memory_mib": _short(candidate.memory_mib),
        "cpu_ms_per_request": _estimate(cost and cost.times(1e3)),
        "price_per_million": _estimate(cost.times(million) if cost and million else None),
    }


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else {name: _short(value) for name, value in found._asdict().items()}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
