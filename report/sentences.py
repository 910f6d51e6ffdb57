"""What renderers say in words: how to read the numbers, what the instrument is worth, how to do it again."""

import shlex
from collections.abc import Iterator

from report import additions
from report.rows import NULL, name_of
from report.summary import Row, Summary
from report.verdicts import METRICS, TOO_CLOSE

# Where the two are further apart than this, and not by chance, a closed loop would have hidden something.
APART = 1.2
# What decides the load; where files and servers are is another machine's own.
ARGUMENTS: tuple[str, ...] = (
    "paths",
    "via",
    "rounds",
    "rows",
    "rate",
    "duration",
    "min_requests",
    "warmup",
    "arrivals",
    "connections",
)
ARGUMENTS += ("closed_loop", "users", "processes", "targets", "environment", "allow", "seed")
# The run's value of this key where the servers are the machine's own (loadtest/__main__.py), and of runs before it.
LOCAL = "local"
WAYS = {"direct": "reached directly", "gateway": "through the gateway"}


def environment(summary: Summary) -> str:
    """Give what the servers ran on, as the run names it."""
    return str(summary.facts["fairness"]["run"].get("environment", {"value": LOCAL})["value"])


def legend(summary: Summary) -> str:
    """Give what a reader must know to read the numbers."""
    warmup = sum(row.warmup_requests for row in summary.rows)
    if summary.open_loop:
        model = "requests leave by a schedule; response time = reply received - scheduled; service time = reply - sent"
    else:
        model = "each user waits for its reply; service time = reply received - request sent"
    return (
        f"{summary.facts['load_model']}: {model}; {len(summary.rounds)} rounds; {warmup:,} warm-up requests are "
        "excluded; percentiles are nearest-rank, - means too few samples for it"
    )


def headlines(summary: Summary) -> Iterator[str]:
    """Say which paths no other beats, for each percentile and way that has verdicts on all its paths."""
    labels = {row.name.key: row.label for row in summary.rows}
    kind = "response" if summary.open_loop else "service"
    for metric, via in ((metric, via) for via in ("direct", "gateway") for metric in METRICS):
        group = [each for each in summary.verdicts if each.metric == metric and each.family == "path"]
        group = [each for each in group if each.a.endswith(f".{via}")]
        if group and all(each.verdict for each in group):
            beaten = {each.b if each.verdict == "a" else each.a for each in group if each.verdict != TOO_CLOSE}
            best = sorted({key for each in group for key in (each.a, each.b)} - beaten)
            yield f"{metric} of {kind} times, {WAYS[via]}: {_best([labels[key] for key in best], len(group))}"


def _best(labels: list[str], pairs: int) -> str:
    if len(labels) > 1:
        return f"no path is faster than {' or '.join(labels)}; which of them is fastest is too close to call"
    return f"{labels[0]} is faster than {'every other path' if pairs > 1 else 'the other path'}"


def instrument(summary: Summary) -> Iterator[str]:
    """Say what the instrument itself adds, and how well it kept its schedule."""
    null = summary.null
    if null is None:
        yield "instrument: no null endpoint was loaded, so its own floor is not known"
    else:
        times = [f"service p50 {milliseconds(null.p50_ms)} ms, p99 {milliseconds(null.p99_ms)} ms"]
        if null.response_p50_ms is not None:
            times.append(
                f"response p50 {milliseconds(null.response_p50_ms)} ms, p99 {milliseconds(null.response_p99_ms)} ms"
            )
        shows = "; ".join(times)
        yield f"instrument: an endpoint that answers at once shows {shows}: below that, no latency is a path's own"
    worst = max((row for row in summary.rows if row.lateness), key=_share_late, default=None)
    if worst is not None and worst.lateness is not None:
        p50_us, p99_us, over_1ms_share = worst.lateness
        late = f"p50 {p50_us:,.0f} us, p99 {p99_us:,.0f} us, {over_1ms_share:.2%} by more than 1 ms"
        yield f"instrument: sent late at worst ({worst.name}): {late}"
    busiest = max((row.generator_cpu for row in summary.rows if row.generator_cpu is not None), default=None)
    if busiest is not None:
        yield f"instrument: the load generator used at most {busiest:.0%} of a core (mean of a path's blocks)"

    clock, drifts_us = summary.facts["clock"], [block["clock"]["drift_us"] for block in summary.facts["blocks"]]
    words = [
        f"steps of {clock['smallest_step_ns']} ns",
        *(str(clock[name]) for name in ("source", "timer") if name in clock),
    ]
    drift_us = max(drifts_us, default=0) - min(drifts_us, default=0)
    yield f"instrument: clock: {', '.join(words)}; the wall clock stayed within {drift_us:,.0f} us of it"


def warm_up(summary: Summary) -> Iterator[str]:
    """Say how long each path was asked before the first round, and whether it was stable then."""
    for found in summary.facts["warmup"]:
        if found["stack"] != NULL.stack:
            name = name_of(found)
            state = "until its median was stable" if found["stable"] else "and its median was not stable yet"
            yield f"warm-up: {name}: {found['seconds']:.1f} s, {found['requests']:,} requests, {state}"


def _share_late(row: Row) -> tuple[float, float]:
    return (row.lateness.over_1ms_share, row.lateness.p99_us) if row.lateness else (0.0, 0.0)


def cautions(summary: Summary) -> Iterator[str]:
    """Say where callers that wait for their replies would have seen another p99 than those that come by a schedule."""
    for row in summary.rows:
        waiting, response_ms = row.waiting_caller, row.response_p99_ms
        if waiting and response_ms and response_ms > APART * waiting.high_ms:
            yield (
                f"{row.name}: p99 is {milliseconds(response_ms)} ms by the schedule; one caller that waits for each "
                f"reply would have recorded {milliseconds(waiting.p99_ms)} ms, since it asks nothing while it waits"
            )


def reproduce(summary: Summary) -> Iterator[str]:
    """Give the commands that make this run again, as far as it can be."""
    yield f"again: git checkout {str(summary.facts['git_commit']).partition('-dirty')[0]} && {command(summary)}"


def command(summary: Summary) -> str:
    """Give the command line of the load test, from the arguments that it recorded."""
    words = ["python", "-m", "loadtest"]
    arguments = summary.facts["arguments"] | {"seed": summary.facts["seed"]}
    for name in [name for name in ARGUMENTS if name in arguments]:
        value = arguments[name]
        flag = f"--{name.replace('_', '-')}"
        if name == "environment":
            words += [] if value == LOCAL else [flag, shlex.quote(value)]
        elif value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, str(item))]
        elif value is not None and value is not False:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return " ".join(words)


def milliseconds(value: float | None) -> str:
    """Give a latency in ms with three decimals, or "-" where there is none."""
    return "-" if value is None else f"{value:,.3f}"


def share(row: Row) -> str:
    """Give the gateway's own part of the service time, or "-"."""
    return "-" if row.gateway_share is None else f"{row.gateway_share:.0%}"


def capacity(summary: Summary) -> Iterator[str]:
    """Give the answer that the capacities are, and a line for each path; nothing while it has not been measured."""
    if summary.capacity is not None:
        engines = {row.path: row.engine_label for row in summary.rows}
        yield additions.capacity_answer(summary.capacity, engines)
        yield from additions.capacity_lines(summary.capacity)
