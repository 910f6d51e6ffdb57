"""From a run's folder to its Summary: read, summarise, doubt, and only then judge."""

from pathlib import Path

from report import attachments, validity
from report.rows import Rows, read_run
from report.summary import Row, Summary, latencies, summarise
from report.verdicts import Verdict, judge


def build(folder: Path) -> Summary:
    """Return the summary of a run. Raises ReportError."""
    run = read_run(folder)
    rows, null = summarise(run)
    wrong = validity.answers(run, rows)
    reasons = (*wrong, *validity.timing_reasons(run, rows, null))
    return Summary(
        run.facts,
        run.rounds,
        rows,
        null,
        reasons,
        not wrong,
        # A run that proves nothing gives no verdict.
        () if reasons else _verdicts(run, rows),
        attachments.capacity(folder),
        attachments.scorecard(folder),
    )


def _verdicts(run: Rows, rows: tuple[Row, ...]) -> tuple[Verdict, ...]:
    labels = {row.name.key: row.label for row in rows}
    return judge(latencies(rows, run.rounds), labels, seed=run.facts["seed"])
