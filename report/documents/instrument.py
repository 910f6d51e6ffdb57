"""What the instrument is worth: its own part of every time, how well it kept its schedule, and the warm-up."""

from collections.abc import Iterator

from report.document import Block, Bullets, Column, Detail, Fold, Table, Text, Tone
from report.documents.phrases import cells, milliseconds, number
from report.rows import NO_OP, name_of
from report.stats import PathResult
from report.summary import Summary


def instrument(summary: Summary) -> Iterator[Block]:
    """Yield what is known of the load generator in the run."""
    yield Bullets(tuple(Text(line, Tone.SOFT, Detail.BRIEF) for line in _lines(summary)))
    warmed = tuple(Text(line, Tone.SOFT) for line in warm_up(summary))
    yield Fold("Warm-up", (Bullets(warmed),))
    numbers = map(Column, ("sent late p50, us", "p99, us", "by more than 1 ms", "generator, of a core"))
    columns = (Column("path", numeric=False), Column("via", numeric=False), *numbers)
    no_op = () if summary.no_op is None else (summary.no_op,)
    rows = (
        cells("no-op server" if row in no_op else row.path, row.way, *_late(row), number(row.generator_cpu, ".0%"))
        for row in (*summary.rows, *no_op)
    )
    yield Table("Lateness and CPU of the load generator by path", columns, tuple(rows), Detail.FULL)


def _late(row: PathResult) -> tuple[str, str, str]:
    if row.lateness is None:
        return "-", "-", "-"
    return f"{row.lateness.p50_us:,.0f}", f"{row.lateness.p99_us:,.0f}", f"{row.lateness.over_1ms_share:.2%}"


def _lines(summary: Summary) -> Iterator[str]:
    """Yield the baseline overhead, and how well the load generator kept its schedule."""
    no_op = summary.no_op
    if no_op is None:
        yield "no no-op server was loaded, so the baseline overhead is unknown"
    else:
        times = [("service", no_op.p50_ms, no_op.p99_ms)]
        times += (
            [("response", no_op.response_p50_ms, no_op.response_p99_ms)] if no_op.response_p50_ms is not None else []
        )
        shows = "; ".join(f"{kind} p50 {milliseconds(p50)} ms, p99 {milliseconds(p99)} ms" for kind, p50, p99 in times)
        yield f"baseline overhead (a no-op server): {shows}; no smaller difference is a path's own"
    delays = [(row.lateness.over_1ms_share, row.lateness.p99_us, row) for row in summary.rows if row.lateness]
    if delays:
        worst = max(delays, key=lambda each: each[:2])[2]
        p50, p99, share = _late(worst)
        yield f"scheduling delay at worst ({worst.name}): p50 {p50} us, p99 {p99} us, {share} by more than 1 ms"
    busiest = max((row.generator_cpu for row in summary.rows if row.generator_cpu is not None), default=None)
    if busiest is not None:
        yield f"the load generator used at most {busiest:.0%} of a core (mean of a path's measurements)"
    clock = summary.facts["clock"]
    drifts_us = [measurement["clock"]["drift_us"] for measurement in summary.facts["measurements"]]
    words = [f"steps of {clock['smallest_step_ns']} ns"]
    words += [str(clock[name]) for name in ("source", "timer") if name in clock]
    drift_us = max(drifts_us, default=0) - min(drifts_us, default=0)
    yield f"clock: {', '.join(words)}; the wall clock stayed within {drift_us:,.0f} us of it"


def warm_up(summary: Summary) -> Iterator[str]:
    """Yield how long each path was warmed up, and whether it was stable then."""
    for found in summary.facts["warmup"]:
        if found["stack"] != NO_OP.stack:
            state = "until its median was stable" if found["stable"] else "and its median was not stable yet"
            yield f"{name_of(found)}: {found['seconds']:.1f} s, {found['requests']:,} requests, {state}"
