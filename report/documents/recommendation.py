"""The recommendation as a line to act on, a table of what there was to choose from, and what would change it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from report import pareto
from report.candidate import UNKNOWN, Candidate
from report.document import Block, Bullets, Cell, Chart, Column, Detail, Fold, Table, Text, Tone
from report.documents.attachments import WHOLE, WHOLE_TIMES
from report.documents.phrases import WAYS, number
from report.estimates import Estimate
from report.recommendation import Answer, Basis, Recommendation, Standing, Step, standing

STANDINGS = {
    Standing.MEETS: "holds it",
    Standing.UNSURE: "not sure to hold it",
    Standing.MISSES: "does not hold it",
    Standing.UNKNOWN: "not known to hold it",
}
LATENCY_CAPTION = (
    "Cheaper is left, faster is down; the dotted line is the objective. A filled point is on the Pareto front: no "
    "other path reached the same way is as good or better in cost, p99 and capacity at once. Bars are intervals (of a "
    "p99 between two rates that were tried, its range). A ring marks what is recommended, a line joins the settings of "
    "one path."
)
CAPACITY_CAPTION = "The same points: cheaper is left, more capacity is up. The dotted line is the rate."
CAPTIONS = {
    "latency-by-cost": ("p99 at the rate against cost", LATENCY_CAPTION),
    "capacity-by-cost": ("Capacity against cost", CAPACITY_CAPTION),
}


def recommendation(found: Recommendation, colours: Mapping[str, str]) -> Iterator[Block]:
    """Yield the answers, what is missing with the commands that measure it, what cannot be known, and the pictures."""
    for reason in found.reasons:
        yield Text(f"{asked(found)}: none, since {reason}.", detail=Detail.BRIEF)
    if not found.answers and not found.reasons:
        yield Text(f"{asked(found)}: not known yet.", Tone.STRONG, Detail.BRIEF)
    for answer in found.answers:
        yield Text(headline(found, answer), Tone.STRONG, Detail.BRIEF)
        yield _table(found, answer)
        yield Bullets(tuple(_sentences(found, answer)))
    if found.missing and not found.reasons:
        needed = Detail.USUAL if found.answers else Detail.BRIEF
        yield Bullets(
            tuple(Text(f"Not measured: {what}: {command}", Tone.SOFT, needed) for what, command in found.missing)
        )
    if found.answers:
        yield Fold("What this run cannot know", (Bullets(tuple(Text(each, Tone.SOFT) for each in found.unknowns)),))
        for name, specification in pareto.charts(found, colours).items():
            yield Chart(name, *CAPTIONS[name], specification)


def asked(found: Recommendation) -> str:
    """Return the question."""
    return f"For {found.question.rate_rps:,g} req/s at p99 below {found.question.slo_p99_ms:g} ms"


def headline(found: Recommendation, answer: Answer) -> str:
    """Return the answer in a line."""
    begin, rate_rps = f"{asked(found)}, {WAYS[answer.via]}", found.question.rate_rps
    if answer.choice is None:
        open_ones = {Standing.UNSURE, Standing.UNKNOWN} & {standing(each, rate_rps) for each in answer.candidates}
        return f"{begin}: no path {'is known to hold it' if open_ones else 'holds it'}. {_nearest(answer, rate_rps)}"
    chosen = answer.choice.chosen
    cores = chosen.cores_for(rate_rps)
    name, origin = chosen.settings
    settings = f"{name} ({origin})" if origin else name
    facts = (
        f"settings: {settings}",
        f"precision: {chosen.precision}" if chosen.precision != UNKNOWN else "",
        f"{cores} core{'s' if cores != 1 else ''}" if cores else "",
        f"{chosen.memory_mib:,.0f} MiB" if chosen.memory_mib else "",
        f"{_cost(found, chosen)} {_unit(found)}" if chosen.cost else "",
        _held(chosen, rate_rps),
    )
    return f"{begin}: {chosen.path} [{chosen.engine}]; {'; '.join(filter(None, facts))}."


def _nearest(answer: Answer, rate_rps: float) -> str:
    if answer.runner_up is None:
        return "No path is known to hold any rate."
    rate, machines = answer.runner_up.rate_rps, math.ceil(rate_rps / answer.runner_up.rate_rps)
    return (
        f"The highest capacity is {rate:,.0f} req/s, of {answer.runner_up.label}: {machines:,} such machines, if a "
        "rate grows evenly with machines."
    )


def _table(found: Recommendation, answer: Answer) -> Table:
    words = partial(Column, numeric=False, detail=Detail.BRIEF)
    columns = (
        words("path"),
        words("engine and version", below=True, wide=True, detail=Detail.USUAL),
        words("answer"),
        words("settings"),
        words("precision", detail=Detail.USUAL),
        Column(f"p99, ms, at {found.question.rate_rps:,g} req/s"),
        Column("holds, req/s", detail=Detail.BRIEF),
        Column("cores"),
        Column("memory, MiB"),
        Column(pareto.unit(found), detail=Detail.BRIEF),
    )
    rows = tuple(_row(found, answer, each) for each in _ranked(answer))
    return Table(f"What there is to choose from, {WAYS[answer.via]}", columns, rows)


def _ranked(answer: Answer) -> list[Candidate]:
    """Return the recommended one, the runner-up, then the others by what they cost."""
    first = [each for each in (answer.choice and answer.choice.chosen, answer.runner_up) if each]
    others = [each for each in answer.candidates if each not in first]
    return [*first, *sorted(others, key=lambda each: each.cost.seconds if each.cost else math.inf)]


def _row(found: Recommendation, answer: Answer, candidate: Candidate) -> tuple[Cell, ...]:
    rate_rps, capacity = found.question.rate_rps, candidate.capacity
    chosen = answer.choice is not None and candidate is answer.choice.chosen
    held = "-" if capacity is None else f"{'at least ' if capacity.open_ended else ''}{candidate.rate_rps:,.0f}"
    ends = capacity and capacity.rate_rps and (capacity.low_rps, capacity.high_rps)
    return (
        Cell(candidate.path, Tone.STRONG if chosen else Tone.PLAIN),
        Cell(candidate.engine),
        Cell(_place(answer, candidate, rate_rps), Tone.STRONG if chosen else Tone.PLAIN),
        Cell(candidate.settings.name, aside=candidate.settings.origin),
        Cell(candidate.precision),
        _estimate(candidate.p99_at(rate_rps)),
        Cell(held, aside=f"({_interval(ends, ',.0f')})" if ends else ""),
        Cell(number(candidate.cores_for(rate_rps), "d")),
        Cell(number(candidate.memory_mib, ",.0f")),
        Cell(_cost(found, candidate), aside=_cost_interval(found, candidate)),
    )


def _place(answer: Answer, candidate: Candidate, rate_rps: float) -> str:
    said = STANDINGS[standing(candidate, rate_rps)]
    if answer.choice is not None and candidate is answer.choice.chosen:
        return "recommended" if standing(candidate, rate_rps) is Standing.MEETS else f"recommended; {said}"
    if answer.choice is not None and candidate in answer.choice.tie:
        return f"too close to call; {said}"
    return f"runner-up; {said}" if answer.choice is not None and candidate is answer.runner_up else said


def _sentences(found: Recommendation, answer: Answer) -> Iterator[Text]:
    choice, share = answer.choice, answer.break_even(found.question.rate_rps)
    yield from (Text(each, Tone.DOUBT, Detail.BRIEF) for each in _doubts(found, answer))
    if choice is not None and answer.runner_up is not None:
        yield Text(_loses(found, answer, answer.runner_up), detail=Detail.BRIEF)
    yield Text(_by_rate(answer))
    yield Text(_by_slo(found, answer))
    if answer.runner_up is not None and share is not None:
        yield Text(_by_price(found, answer.runner_up, share))
    if choice is not None and found.whole_machine is not None and found.question.price is not None:
        million = _money(found.whole_machine, found.question.price.currency)
        yield Text(f"On a machine that serves nothing else, a million requests cost {million} on any path.")
    if choice is not None and choice.chosen.version:
        yield Text(f"By version: version {choice.chosen.version} answered; another one has costs and rates of its own.")


def _doubts(found: Recommendation, answer: Answer) -> Iterator[str]:
    choice, rate_rps = answer.choice, found.question.rate_rps
    if wrong := ", ".join(each.name for each in answer.candidates if each.wrong_answers):
        yield f"Incorrect responses while capacities or costs were measured, so not to be chosen: {wrong}."
    if choice is None:
        return
    names = ", ".join(each.name for each in choice.tie)
    if choice.basis is Basis.TIE:
        yield (
            f"Too close to call in cost: {choice.chosen.name}, {names}. Of these, the one with the highest capacity is "
            "named; if you run one of them already, stay with it."
        )
    elif choice.basis is Basis.CAPACITY:
        close = f" Too close to call with {names}: the intervals of the capacities overlap." if names else ""
        holding = [each for each in answer.candidates if each.rate_rps >= rate_rps]
        uncosted = ", ".join(each.name for each in holding if each.cost is None)
        costed = any(each.cost is not None for each in holding)
        why = f"costs are unknown for {uncosted}" if costed else "no cost was measured"
        yield f"By capacity alone, as {why}.{close}"
    if open_ones := [each for each in answer.candidates if _cheaper(each, choice.chosen, rate_rps)]:
        names = ", ".join(each.name for each in open_ones)
        yield f"Cheaper, and not known or not sure to hold {rate_rps:,g} req/s: {names}."
    if choice.chosen.capacity is not None and standing(choice.chosen, rate_rps) is Standing.UNSURE:
        ends = choice.chosen.capacity[1:3]
        instead = f"{answer.surer.label} is sure to" if answer.surer else "no other path is sure to"
        yield (
            f"{rate_rps:,g} req/s is inside the 99 % interval of the capacity of {choice.chosen.name} "
            f"({_interval(ends, ',.0f')}): it may miss the objective; {instead} hold it."
        )


def _cheaper(one: Candidate, chosen: Candidate, rate_rps: float) -> bool:
    """Return whether one that was not to be chosen costs less and may hold the rate."""
    less = one.cost is not None and chosen.cost is not None and one.cost.seconds < chosen.cost.seconds
    return less and one.rate_rps < rate_rps and standing(one, rate_rps) in {Standing.UNSURE, Standing.UNKNOWN}


def _loses(found: Recommendation, answer: Answer, runner_up: Candidate) -> str:
    rate_rps = found.question.rate_rps
    if runner_up.rate_rps < rate_rps:
        return (
            f"No other path is known to hold it; {runner_up.label} comes nearest, with {runner_up.rate_rps:,.0f} req/s."
        )
    held = _held(runner_up, rate_rps)
    if answer.ratio is None:
        return f"Runner-up: {runner_up.label}; {held}."
    low, high = answer.ratio.low, answer.ratio.high
    sure = f" (95 % CI {low:.2f}..{high:.2f})" if low is not None and high is not None else ""
    return f"Runner-up: {runner_up.label}; costs {answer.ratio.value:.2f} times as much a request{sure}; {held}."


def _by_rate(answer: Answer) -> str:
    said = [f"up to {step.bound:,.0f} req/s{_around(step)} {step.candidate.name}" for step in answer.by_rate]
    top = max((step.bound for step in answer.by_rate), default=0.0)
    unseen = ", ".join(each.name for each in answer.candidates if each.capacity is None or each.capacity.open_ended)
    end = f"above that, not known: how far {unseen} goes was not seen" if unseen else "above that, none"
    return f"By rate: {'; '.join(said)}; {end}." if top else "By rate: none."


def _around(step: Step) -> str:
    capacity = step.candidate.capacity
    known = capacity is not None and capacity.rate_rps == step.bound and None not in capacity[1:3]
    return f" (99 % CI {_interval(capacity[1:3], ',.0f')})" if capacity is not None and known else ""


def _by_slo(found: Recommendation, answer: Answer) -> str:
    rate = f"{found.question.rate_rps:,g}"
    if not answer.by_slo:
        command = f"make loadtest RATE={found.question.rate_rps:g}"
        return f"By objective: not known, as not every path has a p99 at {rate} req/s: {command}"
    said = [f"from about {step.bound:.3g} ms {step.candidate.name}" for step in answer.by_slo]
    return f"By objective, at {rate} req/s: below about {answer.by_slo[0].bound:.3g} ms none; {'; '.join(said)}."


def _by_price(found: Recommendation, runner_up: Candidate, share: float) -> str:
    price = found.question.price
    said = f"a machine that is {1 - share:.0%} cheaper"
    if price is not None:
        said = f"{said}, {_money(price.per_hour * share, price.currency)} an hour instead of {price.per_hour:g}"
    return (
        f"By price: {runner_up.name} would cost as little on {said}; a price that is the same for all changes nothing."
    )


def _unit(found: Recommendation) -> str:
    price = found.question.price
    return pareto.unit(found) if price is None or price.currency else "per million requests"


def _held(candidate: Candidate, rate_rps: float) -> str:
    times = candidate.headroom(rate_rps) or 0
    return f"holds {f'{times:.2g}' if times < WHOLE_TIMES else f'{times:,.0f}'} times the rate"


def _cost(found: Recommendation, candidate: Candidate) -> str:
    if candidate.cost is None:
        return "-"
    million = found.per_million(candidate.cost.seconds)
    return _digits(candidate.cost.seconds * 1e3 if million is None else million)


def _cost_interval(found: Recommendation, candidate: Candidate) -> str:
    if candidate.cost is None or not candidate.cost.estimate.bounded:
        return ""
    return _between(candidate.cost.estimate.times(found.per_million(1.0) or 1e3))


def _estimate(found: Estimate | None) -> Cell:
    return Cell("-") if found is None else Cell(_digits(found.value), aside=_between(found))


def _between(found: Estimate) -> str:
    """Return the interval of an estimate, or "" where no end is known."""
    ends = ["?" if end is None else _digits(end) for end in found[1:]]
    return "" if ends == ["?", "?"] else f"({'..'.join(ends)})"


def _interval(ends: Sequence[float | None], form: str) -> str:
    return "..".join("?" if end is None else format(end, form) for end in ends)


def _money(value: float, currency: str) -> str:
    return f"{_digits(value)} {currency}".strip()


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < WHOLE else f"{value:,.0f}"
