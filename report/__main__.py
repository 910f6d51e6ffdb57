"""Judge a load test: `python -m report [RUN_DIR]` prints verdicts and table, and writes its files into the run.

The files are summary.json, summary.md and report.html. `python -m report recommend [RUN] --rate 500 --slo-p99-ms 5`
says which path to take for another rate or objective than the run's own; `python -m report compare A B` puts two runs
side by side; `python -m report gate RUN` says whether new code is slower than old, with exit codes of its own (see its
--help); `python -m report crosscheck FOLDER` says whether the load test agrees with other instruments. Ends with 0 only
when the run is valid: every expected row is there, right, on time, from a fair comparison; 3 when every path returned
correct responses, but the times prove nothing (of a cross-check: no agreement; of a recommendation: none); 1 otherwise,
and when two runs must not be compared; 2 for a bad argument; 130 after Ctrl-C.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from report import compare, crosscheck, gate, look, recommendation_json
from report.document import Document
from report.documents import comparison, run
from report.documents import crosscheck as crosscheck_document
from report.documents import gate as gate_document
from report.recommendation import Price, Question, question_of
from report.rows import write_json
from report.schema import ReportError
from report.summary import Summary, build, to_dict
from report.writers import html, markdown, terminal
from servepath.artifacts import atomic
from servepath.cli.arguments import Parser, positive
from servepath.cli.signals import run_main
from servepath.results.names import RECOMMENDATION_FILE, SUMMARY_FILE, VIAS
from servepath.results.thresholds import UNTRUSTED

# The table's width where there is no terminal to ask, as in a log file.
LOG_COLUMNS = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS, highlight=False)
    try:
        command = COMMANDS.get(argv[0]) if argv else None
        return command(argv[1:], console) if command else _report(argv, console)
    except (ReportError, OSError) as error:
        print(f"servepath report: {error}", file=sys.stderr)
        return 1


def _report(argv: Sequence[str], console: Console) -> int:
    parser = Parser(
        "servepath report",
        description="Verdicts, table, summary.json, summary.md and report.html of a run.",
        epilog="servepath report compare A B: two runs side by side; servepath report gate RUN: is new code slower? "
        "servepath recommend RUN: which path to take for a rate? servepath report crosscheck FOLDER: do the "
        "instruments agree?",
    )
    default = Path("results/latest")
    parser.add_argument("run", nargs="?", type=Path, default=default, help=f"folder of a run (default: {default})")
    folder = parser.parse_args(argv).run
    summary = build(folder)
    document = run.document(summary)
    terminal.show(document, console)  # first: the folder may be read-only
    _write(folder, summary, document)
    console.print(f"{folder / 'report.html'}", soft_wrap=True)
    return 0 if summary.valid else UNTRUSTED if summary.answered else 1


def _write(folder: Path, summary: Summary, document: Document) -> None:
    """Write the files of a report."""
    atomic.write_file(folder / SUMMARY_FILE, write_json(to_dict(summary)))
    atomic.write_file(folder / "summary.md", markdown.render(document))
    atomic.write_file(folder / "report.html", html.render(document))


def _recommend(argv: Sequence[str], console: Console) -> int:
    parser = Parser(
        "servepath recommend",
        description="Which path to take for a rate at an objective, and what would change that; by a stored run alone. "
        "What is not given is as the run has it.",
        epilog="exit codes: 0 a path is recommended; 1 the run cannot be read; 2 a bad argument; 3 none can be "
        "recommended, and the answer says why",
    )
    default = Path("results/latest")
    parser.add_argument("run", nargs="?", type=Path, default=default, help=f"folder of a run (default: {default})")
    parser.add_argument("--rate", type=positive, metavar="RPS", help="requests a second to be served")
    parser.add_argument("--slo-p99-ms", type=positive, metavar="MS", help="objective: p99 of response times, in ms")
    parser.add_argument("--price-per-hour", type=positive, metavar="PRICE", help="of an hour of the run's machine")
    parser.add_argument("--currency", default="", help="of that price, such as EUR")
    parser.add_argument("--paths", default="", help="MODEL@STACK,... to choose from (default: all)")
    parser.add_argument("--via", choices=(*VIAS, "both"), default="both", help="how they are reached (default: both)")
    args = parser.parse_args(argv)
    if args.currency and args.price_per_hour is None:
        parser.error("--currency needs --price-per-hour")
    summary = build(args.run)
    own = question_of(summary.evidence)
    question = Question(
        rate_rps=args.rate or own.rate_rps,
        slo_p99_ms=args.slo_p99_ms or own.slo_p99_ms,
        price=Price(args.price_per_hour, args.currency) if args.price_per_hour else own.price,
        paths=tuple(filter(None, args.paths.split(","))),
        vias=VIAS if args.via == "both" else (args.via,),
    )
    summary = replace(summary, question=question)
    found = summary.recommendation
    document = run.document(summary)
    terminal.show(Document("", (), document.sections[:1]), console)
    atomic.write_file(args.run / RECOMMENDATION_FILE, write_json(recommendation_json.to_dict(found)))
    _write(args.run, summary, document)
    console.print(f"{args.run / RECOMMENDATION_FILE}", soft_wrap=True)
    return 0 if any(answer.choice for answer in found.answers) else UNTRUSTED


def _compare(argv: Sequence[str], console: Console) -> int:
    parser = Parser("servepath report compare", description="Two runs side by side, described and not judged.")
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folder of a run")
    allow = "a must-equal key that may differ; repeatable"
    parser.add_argument("--allow", action="append", default=[], metavar="KEY", help=allow)
    options = parser.parse_args(argv)
    first, second = (build(folder) for folder in options.runs)
    names = (f"A {first.facts['run']}", f"B {second.facts['run']}")
    found = compare.compare(first, second, allowed=options.allow)
    terminal.show(comparison.document(found, names), console)
    return 0


def _crosscheck(argv: Sequence[str], console: Console) -> int:
    parser = Parser("servepath report crosscheck", description="Does the load test agree with LoadGen and h2load?")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder that `make crosscheck` wrote")
    folder = parser.parse_args(argv).folder
    found = crosscheck.check(folder)
    terminal.show(crosscheck_document.document(found), console)
    atomic.write_file(folder / SUMMARY_FILE, write_json(crosscheck.to_dict(found)))
    console.print(f"{folder / 'summary.json'}", soft_wrap=True)
    return 0 if found.agrees else UNTRUSTED


def _gate(argv: Sequence[str], console: Console) -> int:
    parser = Parser(
        "servepath report gate",
        description="Is new code slower than old? A run of two sides, or a run against stored ones, decides.",
        epilog="exit codes: 0 no path is slower by the threshold or more; 1 something cannot be read or compared; 2 a "
        "bad argument; 3 a path is slower by more than the threshold; 4 inconclusive",
    )
    parser.add_argument("run", type=Path, help="folder of the run with the new code")
    parser.add_argument("--threshold", type=positive, default=5.0, metavar="PERCENT", help="default: 5")
    parser.add_argument("--tail", action="store_true", help="require that the p99 is not slower, too")
    stored = f"folders of runs of one commit, the old code; at least {gate.MIN_STORED}"
    parser.add_argument("--stored", nargs="+", type=Path, default=[], metavar="RUN", help=stored)
    allow = "a must-equal key in which stored runs may differ from the new one; repeatable"
    parser.add_argument("--allow", action="append", default=[], metavar="KEY", help=allow)
    args = parser.parse_args(argv)
    new = build(args.run)
    if not new.valid:
        terminal.show(gate_document.invalid(new), console)
        return gate.UNDECIDED
    stored_runs = [build(folder) for folder in args.stored]
    estimates = gate.from_stored(new, stored_runs, args.allow) if stored_runs else gate.from_sides(new)
    decisions = gate.decide(estimates, args.threshold / 100)
    code = gate.outcome(decisions, tail=args.tail)
    rules = gate_document.Rules(args.threshold, args.tail, bool(stored_runs))
    terminal.show(gate_document.document(decisions, code, rules), console)
    return code


COMMANDS: Mapping[str, Callable[[Sequence[str], Console], int]] = {
    "compare": _compare,
    "crosscheck": _crosscheck,
    "gate": _gate,
    "look": look.main,
    "recommend": _recommend,
}

if __name__ == "__main__":
    sys.exit(run_main(main))  # every file is written whole or not at all
