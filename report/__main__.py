"""Judge a load test: `python -m report [RUN_DIR]` prints its table and writes summary.json and report.html there.

Ends with 0 only when the run is valid: every expected row is there, with at least 1,000 requests, no error and no wrong
answer; 1 otherwise, 2 for a bad argument.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from commandline.arguments import Parser
from report import page, terminal, validity
from report.rows import ReportError, read_run
from report.summary import Summary, summarise, to_dict
from store import atomic

# The table's width where there is no terminal to ask, as in a log file.
LOG_COLUMNS = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report and give the exit code."""
    parser = Parser("python -m report", description="Table, summary.json and report.html of a run.")
    default = Path("results/latest")
    parser.add_argument("run", nargs="?", type=Path, default=default, help=f"folder of a run (default: {default})")
    folder = parser.parse_args(arguments).run
    console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS, highlight=False)
    try:
        summary = build(folder)
        atomic.write_file(folder / "summary.json", json.dumps(to_dict(summary), indent=2) + "\n")
        atomic.write_file(folder / "report.html", page.render(summary))
    except (ReportError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    terminal.show(summary, console)
    console.print(f"{folder / 'report.html'}", soft_wrap=True)
    return 0 if summary.valid else 1


def build(folder: Path) -> Summary:
    """Give the summary of a run. Raises ReportError."""
    run = read_run(folder)
    rows = summarise(run)
    return Summary(run.facts, rows, validity.reasons(run, rows))


if __name__ == "__main__":
    sys.exit(main())
