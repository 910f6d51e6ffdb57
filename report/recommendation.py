"""Which path to take for a rate at an objective: the cheapest one that holds it, and what would change that.

A path holds a rate up to its certified capacity. Of those that do, the one with the fewest CPU seconds per request is
the cheapest; where that is not sure, or one of them has no known cost, the one with the highest capacity is taken
(docs/adr/0041-the-recommendation.md).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from report import estimates
from report.candidate import Candidate
from report.candidates import Evidence, candidates, precisions_of
from report.estimates import Estimate
from report.intervals import ALPHA
from report.schema import ReportError
from report.unknowns import Missing, missing, precisions, unknowns
from servepath.results.names import VIAS

# The objective of a run that has no capacity yet, as `make capacity` has it without SLO_P99_MS.
SLO_P99_MS = 5.0
HOUR_S = 3600


class Price(NamedTuple):
    """What an hour of the run's machine costs, as its owner says."""

    per_hour: float
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be served. paths: the ones to choose from; vias: the ways to reach them.

    Without paths, all are chosen from whose precision the run loaded: a reduced one is not a faster server.
    """

    rate_rps: float
    slo_p99_ms: float
    price: Price | None = None
    paths: Collection[str] = ()
    vias: Collection[str] = VIAS


class Standing(StrEnum):
    """Whether a path holds a rate: UNSURE inside the interval of its capacity, UNKNOWN beyond what was searched.

    An interval has no lower end where nothing bounds it: every rate up to its upper end is inside.
    """

    MEETS = "meets"
    UNSURE = "unsure"
    MISSES = "misses"
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """What a choice is by: of costs that cannot be told apart, or of which one is not known, the capacity decides."""

    ONLY = "the only one"
    COST = "cost"
    TIE = "capacity, costs being too close to call"
    CAPACITY = "capacity, costs being unknown"


class Choice(NamedTuple):
    """A path, by what it was chosen, and those that are not told apart from it."""

    chosen: Candidate
    basis: Basis
    tie: tuple[Candidate, ...] = ()


class Step(NamedTuple):
    """From one bound to the next, what would be recommended."""

    bound: float
    candidate: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The recommendation for paths that are reached one way.

    surer: where the rate is inside the interval of the chosen one's capacity, the choice among those whose interval is
    above it. runner_up: the best of the other paths, if need be one that misses; of one path alone, of its other
    settings. ratio: its cost to the chosen one's. by_rate: each up to its bound, nothing above the last one; by_slo:
    each from its bound on, nothing below the first one.
    """

    via: str
    candidates: tuple[Candidate, ...]
    choice: Choice | None = None
    surer: Candidate | None = None
    runner_up: Candidate | None = None
    ratio: Estimate | None = None
    by_rate: tuple[Step, ...] = ()
    by_slo: tuple[Step, ...] = ()

    def break_even(self, rate_rps: float) -> float | None:
        """Return the share of the recommended one's price at which the runner-up would cost as little.

        None where it does not hold the rate, or where nobody knows that it costs more.
        """
        ratio = self.ratio
        if self.runner_up is None or self.runner_up.rate_rps < rate_rps or ratio is None:
            return None
        return 1 / ratio.value if (ratio.value if ratio.low is None else ratio.low) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """An answer for each way that has capacities. reasons: why there is none. cores: of the run's machine."""

    question: Question
    answers: tuple[Answer, ...]
    reasons: tuple[str, ...]
    missing: tuple[Missing, ...]
    unknowns: tuple[str, ...]
    cores: int

    def per_million(self, cost_s: float) -> float | None:
        """Return the price of a million requests, by the share of the machine that their CPU seconds are."""
        price = self.question.price
        return None if price is None else cost_s * 1e6 * price.per_hour / HOUR_S / self.cores

    @property
    def whole_machine(self) -> float | None:
        """Return the price of a million requests where the machine serves nothing else."""
        price = self.question.price
        return None if price is None else price.per_hour / HOUR_S / self.question.rate_rps * 1e6


def question_of(evidence: Evidence) -> Question:
    """Return what the run itself asks: its rate, its capacity's objective, its scorecard's price."""
    slo_p99_ms = SLO_P99_MS if evidence.capacity is None else float(evidence.capacity["slo_p99_ms"])
    told = (evidence.scorecard or {}).get("price")
    price = None if told is None else Price(told["per_hour"], told["currency"])
    return Question(rate_rps=float(evidence.facts["arguments"]["rate"]), slo_p99_ms=slo_p99_ms, price=price)


def recommend(evidence: Evidence, question: Question) -> Recommendation:
    """Return the recommendation. Raises ReportError for a path that the run does not have."""
    found = candidates(evidence, question.slo_p99_ms)
    known = dict.fromkeys(each.path for each in found)
    if strange := [path for path in question.paths if path not in known]:
        raise ReportError(f"{strange[0]} is not in this run; there are {', '.join(known)}")
    found, own = tuple(each for each in found if each.via in question.vias), precisions_of(evidence)
    left_out = () if question.paths else tuple(each for each in found if each.reduced not in own)
    found = tuple(each for each in found if each not in left_out and each.path in (question.paths or known))
    reasons = tuple(_reasons(evidence, found, question))
    groups = [] if reasons else [(via, tuple(each)) for via, each in groupby(_by_via(found), lambda one: one.via)]
    answers = tuple(
        answer(via, group, question) for via, group in groups if any(each.capacity is not None for each in group)
    )
    choices = [each.choice for each in answers if each.choice and each.choice.basis is Basis.TIE]
    ties = [(each.chosen, *each.tie) for each in choices]
    return Recommendation(
        question=question,
        answers=answers,
        reasons=reasons,
        missing=tuple(missing(evidence, found, question.slo_p99_ms, priced=question.price is not None, ties=ties)),
        unknowns=(
            *precisions(found, left_out),
            *unknowns(evidence, found, question.rate_rps, question.slo_p99_ms),
        ),
        cores=evidence.facts["host"]["cores"],
    )


def _by_via(found: Iterable[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda each: VIAS.index(each.via))


def _reasons(evidence: Evidence, found: Sequence[Candidate], question: Question) -> Iterator[str]:
    if not evidence.valid:
        yield "a run that is not valid recommends nothing"
    if evidence.rows and not found:
        such = "such path" if question.paths else "path"
        yield f"this run has no {such} via {' or '.join(question.vias)}; run: make loadtest VIA=both"
    paths, named = evidence.facts["fairness"]["paths"], {(each.path, each.via) for each in found}
    weights = {
        paths[row.name.key]["weights_sha256"]["value"]
        for row in evidence.rows
        if (row.path, row.via) in named and "weights_sha256" in paths.get(row.name.key, {})
    }
    if len(weights) > 1:
        yield "the paths do not compute the same (weights_sha256 differs): choose those of one model by PATHS"


def answer(via: str, found: tuple[Candidate, ...], question: Question) -> Answer:
    """Return the recommendation among the paths that are reached one way."""
    rate_rps = question.rate_rps
    # How many are compared must not depend on the rate, nor on what was seen: which is cheapest is, so all pairs count.
    alpha = ALPHA / max(math.comb(sum(each.cost is not None for each in found), 2), 1)
    holding = [each for each in found if each.rate_rps >= rate_rps]
    choice = pick(holding, alpha)
    chosen = choice and choice.chosen
    sure = [each for each in holding if standing(each, rate_rps) is Standing.MEETS]
    surer = pick(sure, alpha) if chosen and chosen not in sure else None
    others = [each for each in found if chosen is None or each.path != chosen.path]
    runner_up = _runner_up(others or [each for each in found if each is not chosen], rate_rps, alpha)
    return Answer(
        via=via,
        candidates=found,
        choice=choice,
        surer=surer and surer.chosen,
        runner_up=runner_up,
        ratio=_ratio(runner_up, chosen, alpha) if runner_up and chosen else None,
        by_rate=tuple(_by_rate(found, alpha)),
        by_slo=tuple(_by_slo(found, question, alpha)),
    )


def standing(candidate: Candidate, rate_rps: float) -> Standing:
    """Return whether a candidate holds a rate at the objective of its capacity."""
    capacity = candidate.capacity
    if capacity is None:
        return Standing.UNKNOWN
    if rate_rps <= capacity.rate_rps:
        inside = not capacity.open_ended and (capacity.low_rps is None or rate_rps > capacity.low_rps)
        return Standing.UNSURE if inside else Standing.MEETS
    if capacity.open_ended:
        return Standing.UNKNOWN
    excluded = capacity.high_rps is not None and rate_rps > capacity.high_rps
    return Standing.MISSES if excluded else Standing.UNSURE


def pick(holding: Sequence[Candidate], alpha: float) -> Choice | None:
    """Return the choice among candidates that all hold the rate, None among none."""
    if not holding:
        return None
    by_capacity = sorted(holding, key=lambda each: -each.rate_rps)
    if len(holding) == 1:
        return Choice(holding[0], Basis.ONLY)
    if any(each.cost is None for each in holding):
        first = by_capacity[0]
        return Choice(first, Basis.CAPACITY, tuple(each for each in by_capacity[1:] if _overlap(each, first)))
    cheapest = min(by_capacity, key=_cost_s)
    tied = [each for each in by_capacity if each is cheapest or not _told_apart(each, cheapest, alpha)]
    return Choice(tied[0], Basis.TIE if len(tied) > 1 else Basis.COST, tuple(tied[1:]))


def _cost_s(candidate: Candidate) -> float:
    return candidate.cost.seconds if candidate.cost else float("inf")


def _ratio(one: Candidate, other: Candidate, alpha: float) -> Estimate | None:
    """Return how many times the other's cost the one's is."""
    if one.cost is None or other.cost is None:
        return None
    if one.cost.values and other.cost.values:
        return estimates.ratio(one.cost.values, other.cost.values, alpha)
    return Estimate(one.cost.seconds / other.cost.seconds)


def _told_apart(one: Candidate, cheapest: Candidate, alpha: float) -> bool:
    """Return whether one costs more; where nobody knows how sure the costs are, the figures decide."""
    found = _ratio(one, cheapest, alpha)
    return found is None or (found.value if found.low is None else found.low) > 1


def _overlap(one: Candidate, other: Candidate) -> bool:
    """Return whether the intervals of two capacities have a rate in common."""
    (low, high), (floor, top) = (each.capacity.ends if each.capacity else (0, 0) for each in (one, other))
    return max(low, floor) <= min(high, top)


def _runner_up(others: Sequence[Candidate], rate_rps: float, alpha: float) -> Candidate | None:
    choice = pick([each for each in others if each.rate_rps >= rate_rps], alpha)
    if choice is not None:
        return choice.chosen
    return max((each for each in others if each.rate_rps), key=lambda each: each.rate_rps, default=None)


def _by_rate(found: Sequence[Candidate], alpha: float) -> Iterator[Step]:
    """Yield up to which rate each would be recommended."""
    steps = []
    for bound in sorted({each.rate_rps for each in found if each.rate_rps}):
        choice = pick([each for each in found if each.rate_rps >= bound], alpha)
        steps += [Step(bound, choice.chosen)] if choice else []
    for _, same in groupby(steps, lambda step: id(step.candidate)):
        yield list(same)[-1]


def _by_slo(found: Sequence[Candidate], question: Question, alpha: float) -> Iterator[Step]:
    """Yield from which objective on each would be recommended at the question's rate, as far as the p99 there is known.

    A candidate that is known to hold the rate, or not to, keeps to that whatever single trials showed.
    """
    p99_ms: list[tuple[float, Candidate]] = []
    for each in found:
        if each.wrong_answers:
            continue
        seen, holds = each.p99_at(question.rate_rps), each.rate_rps >= question.rate_rps
        if seen is None and holds:
            return
        if seen is not None and (holds or seen.value > question.slo_p99_ms):
            p99_ms.append((min(seen.value, question.slo_p99_ms) if holds else seen.value, each))
    steps = []
    for bound in sorted({value for value, _ in p99_ms}):
        choice = pick([each for value, each in p99_ms if value <= bound], alpha)
        steps += [Step(bound, choice.chosen)] if choice else []
    for _, same in groupby(steps, lambda step: id(step.candidate)):
        yield next(same)
