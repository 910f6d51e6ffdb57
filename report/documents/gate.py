"""The gate's decisions as a document: a table, what it rests on, and the outcome as the last line."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from report.document import Alert, Block, Cell, Column, Document, Section, Table, Text, Tone
from report.documents.phrases import cells, number
from report.gate import ALARM, CERTAIN, MIN_STORED, NOT_SLOWER, PASSED, SLOWER, UNKNOWN, Decision
from report.summary import Summary
from report.verdicts import MIN_ROUNDS

# More rounds than this take an hour and more: then it is the machine that has to change.
MAX_ROUNDS = 150
TONES = {SLOWER: Tone.BAD, NOT_SLOWER: Tone.GOOD, UNKNOWN: Tone.DOUBT}
OUTCOMES = {PASSED: Tone.GOOD, ALARM: Tone.BAD}


class Rules(NamedTuple):
    """What was asked: percent, whether the p99 must be certain too, whether the old code is stored runs."""

    threshold: float
    tail: bool
    stored: bool


def document(decisions: Sequence[Decision], code: int, rules: Rules) -> Document:
    """Return every ratio with its bounds and decision, what they rest on, and the outcome."""
    rests_on = (Text(line, Tone.SOFT) for line in explain(decisions, rules))
    blocks: tuple[Block, ...] = (_table(decisions, rules), *rests_on)
    closing = Text(conclude(decisions, code, rules), OUTCOMES.get(code, Tone.DOUBT))
    return Document("", (), (Section("gate", "", blocks),), closing=closing)


def invalid(summary: Summary) -> Document:
    """Return why a run decides nothing."""
    said = "inconclusive: the run is not valid; fix that, or run it on a quiet machine"
    return Document("", (), (), alerts=(Alert("not valid", "", summary.reasons),), closing=Text(said, Tone.DOUBT))


def explain(decisions: Sequence[Decision], rules: Rules) -> Iterator[str]:
    """Yield what a ratio is, which ratios decide, and with which confidence."""
    of = "of the new run to the mean of the stored ones" if rules.stored else "of the new side to the old"
    yield f"ratio: percentile of response times, {of}; a closed loop's are service times"
    claim = f"slower: the lower bound is above {1 + rules.threshold / 100:.3f}; not slower: the upper one is below it"
    yield f"{claim}; each claim holds with 95 % confidence for all {len(decisions)} rows together"
    if not rules.tail:
        yield f"the gate passes on {CERTAIN} alone; a p99 fails only if slower (--tail: it must pass, too)"


def conclude(decisions: Sequence[Decision], code: int, rules: Rules) -> str:
    """Return the outcome in one sentence, with the fix when it is inconclusive."""
    if code == ALARM:
        return f"slower by more than {rules.threshold:g} %: {', '.join(_slower(decisions))}"
    must = [each for each in decisions if rules.tail or each.metric == CERTAIN]
    what = "path's p50 or p99" if rules.tail else "path's p50"
    if code == PASSED:
        return f"passed: no {what} is slower by {rules.threshold:g} % or more"
    open_ones = [each for each in must if each.found == UNKNOWN]
    named = (
        ", ".join(f"{each.metric} of {each.measurement}{_size(each)}" for each in open_ones) or "the run has no path"
    )
    return f"inconclusive: {named}; {_fix(open_ones, rules)}"


def _slower(decisions: Sequence[Decision]) -> Iterator[str]:
    for each in decisions:
        if each.found == SLOWER and each.ratio and each.low:
            size = f"{100 * (each.ratio - 1):.1f} % (at least {100 * (each.low - 1):.1f} %)"
            yield f"{each.metric} of {each.measurement} by {size}"


def _size(each: Decision) -> str:
    if each.ratio is None or each.low is None or each.high is None:
        return ""
    return f" ({each.ratio:.3f}, {each.low:.3f}..{each.high:.3f})"


def _fix(open_ones: Sequence[Decision], rules: Rules) -> str:
    if any(each.ratio is None for each in open_ones):
        stored = f"a value in the new run and in at least {MIN_STORED} stored ones"
        return f"each needs {stored if rules.stored else f'at least {MIN_ROUNDS} rounds with enough requests'}"
    if rules.stored:
        return (
            "runs differ too much for that; loadtest gate --ref loads both in one run and detects smaller differences"
        )
    needed = max((each.needed or MAX_ROUNDS + 1 for each in open_ones), default=0)
    if needed > MAX_ROUNDS:
        return f"more than {MAX_ROUNDS} rounds would be needed: use a quieter machine, or a higher --threshold"
    return f"about {needed} rounds would decide, if they vary as these: --rounds {needed}"


def _table(decisions: Sequence[Decision], rules: Rules) -> Table:
    words = tuple(Column(title, numeric=False) for title in ("path", "via", "percentile"))
    numbers = map(Column, ("stored runs" if rules.stored else "rounds", "ratio", "at least", "at most"))
    rows = (
        (
            *cells(each.measurement.path, each.measurement.via, each.metric, str(each.samples)),
            *cells(*(number(value, ".3f") for value in (each.ratio, each.low, each.high))),
            Cell(each.found, TONES[each.found]),
        )
        for each in sorted(decisions, key=lambda each: (each.measurement, each.metric))
    )
    return Table("Decisions", (*words, *numbers, Column("decision", numeric=False)), tuple(rows))
