"""A cross-check in the terminal: each path's figures by each instrument, and whether they agree."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from report.crosscheck import Check, Figure, Way
from report.summary import commit_label
from servepath.results.names import EVEN, H2LOAD, LOADGEN, POISSON

HEADINGS = (
    (POISSON, "response time\nours, Poisson"),
    (LOADGEN, "\nLoadGen"),
    (EVEN, "service time\nours, even"),
    (H2LOAD, "\nh2load"),
)
WORDS = {True: "[green]agree[/]", False: "[red]disagree[/]", None: "[yellow]is inconclusive[/]"}


def show(found: Check, console: Console) -> None:
    """Print table, every comparison that did not agree, and the answer."""
    facts, host = found.facts, found.facts["host"]
    console.print(
        f"{host['cpu']}, {host['cores']} cores, commit {commit_label(str(facts['git_commit']))}, {facts['started']}"
    )
    console.print(_table(found))
    versions = ", ".join(f"{name} {facts['instruments'][name]['version']}" for name in (LOADGEN, H2LOAD))
    console.print(
        f"[dim]{escape(versions)}; p50, and p99 with its interval, in us: medians of {facts['rounds']} rounds at "
        f"{facts['rate_rps']:g} requests/s. The no-op server answers at once: it shows the baseline overhead of "
        "the instruments.[/]"
    )
    if again := found.loaded_again:
        console.print(f"[dim]{again} of {len(facts['measurements'])} measurements failed first and were repeated[/]")
    for line in _complaints(found):
        console.print(line)
    console.print("[green]our load test agrees with both[/]" if found.agrees else "[yellow]no agreement shown[/]")


def _complaints(found: Check) -> Iterator[str]:
    if not found.facts["complete"]:
        yield "[red]the cross-check is incomplete[/]"
    for way in found.ways:
        for reason in way.reasons:
            yield f"[red]{escape(f'{way.name}: {reason}')}[/]"
        for one in way.agreements:
            if not one.agrees:
                yield f"{escape(f'{way.name}: {one.what}')}: {WORDS[one.agrees]}, {escape(one.why)}"


def _table(found: Check) -> Table:
    table = Table("path", "via", header_style="bold")
    for _, heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for way in found.ways:
        table.add_row(*_cells(way), WORDS[way.agrees])
    table.add_row(*_cells(found.null), "[dim]not judged[/]")
    return table


def _cells(way: Way) -> Iterator[str]:
    yield escape(f"{way.name.model}@{way.name.stack}")
    yield way.name.via
    for name, _ in HEADINGS:
        yield _cell(way.figures[name])


def _cell(figure: Figure) -> str:
    p50 = "-" if figure.p50_us is None else f"{figure.p50_us:,.0f}"
    if figure.p99_low_us is None:
        return f"{p50}  -"
    return escape(f"{p50}  {figure.p99_us:,.0f} [{figure.p99_low_us:,.0f}..{figure.p99_high_us:,.0f}]")
