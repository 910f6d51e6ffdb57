"""The summary as a short Markdown text for a pull request (summary.md)."""

from collections.abc import Iterator

from report import cards
from report.sentences import answer, environment, headlines, instrument, milliseconds, origins
from report.summary import Row, Summary
from report.verdicts import TOO_CLOSE

HEAD = "| path | engine | via | requests | errors | wrong | {metric} p50 ms | p99 ms |"


def render(summary: Summary) -> str:
    """Return the text."""
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Summary) -> Iterator[str]:
    facts = summary.facts
    state = "valid" if summary.valid else "**not valid**"
    yield f"### Load test {facts['run']}: {state}"
    load = f"{facts['load_model']}, {facts['arguments']['rate']:g} req/s, {len(summary.rounds)} rounds"
    where = f"{facts['host']['cpu']}, servers: {_cell(environment(summary))}"
    yield f"{load}, {where}, commit `{facts['git_commit']}`, seed {facts['seed']}"
    yield ""
    yield from (f"- not valid: {_cell(reason)}" for reason in summary.reasons)
    if summary.verdicts:
        yield from _verdicts(summary)
    yield ""
    yield HEAD.format(metric="response" if summary.open_loop else "service")
    yield "|---|---|---|---|---|---|---|---|"
    yield from (_row(row, open_loop=summary.open_loop) for row in summary.rows)
    yield ""
    yield from (f"{_cell(line)}  " for line in instrument(summary))
    yield from _attachments(summary)


def _verdicts(summary: Summary) -> Iterator[str]:
    """Yield the best paths and the decided comparisons; the others are only counted."""
    decided = [verdict for verdict in summary.verdicts if verdict.verdict in {"a", "b"}]
    close = sum(verdict.verdict == TOO_CLOSE for verdict in summary.verdicts)
    refused = len(summary.verdicts) - len(decided) - close
    yield from (f"- {_cell(line)}" for line in headlines(summary))
    yield f"- comparisons: {len(decided)} decided, {close} too close to call, {refused} with too few rounds"
    if decided:
        # GitHub folds this; Markdown inside wants an empty line around it.
        yield "\n<details><summary>hypotheses</summary>\n"
        yield from (f"- {_cell(verdict.sentence)}" for verdict in decided)
        yield "\n</details>"


def _attachments(summary: Summary) -> Iterator[str]:
    """Yield the capacity's answer, and the scorecard folded, each with its own day and commit."""
    origin = {name: f" ({_cell(when)})" for name, when in origins(summary)}
    if found := answer(summary):
        yield f"\n**capacity**{origin.get('capacity', '')}: {_cell(str(found))}"
    if summary.cards:
        yield f"\n<details><summary>scorecard{origin.get('scorecard', '')}</summary>\n"
        yield f"| scorecard | {' | '.join(_cell(path) for path, _ in cards.headings(summary.cards))} |"
        yield f"|---|{'---|' * len(summary.cards)}"
        for line in cards.lines(summary.cards):
            yield f"| {_cell(line.heading)} | {' | '.join(line.values)} |"
        yield "\n</details>"


def _row(row: Row, *, open_loop: bool) -> str:
    p50_ms, p99_ms = (row.response_p50_ms, row.response_p99_ms) if open_loop else (row.p50_ms, row.p99_ms)
    counts = (f"{count:,}" for count in (row.requests, row.errors, row.wrong_answers))
    words = (_cell(row.path), _cell(row.engine_label), row.way)
    return f"| {' | '.join((*words, *counts, milliseconds(p50_ms), milliseconds(p99_ms)))} |"


def _cell(text: str) -> str:
    """Escape a text so that it cannot break out of a table or become markup: engines name themselves."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
