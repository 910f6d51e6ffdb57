"""What renderers say in words: how to read the numbers, what the instrument is worth, how to do it again."""

import shlex
from collections.abc import Iterator

from report import attachments
from report.rows import NO_OP, name_of
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
    """Return what the servers ran on, as the run names it."""
    return str(summary.facts["fairness"]["run"].get("environment", {"value": LOCAL})["value"])


def legend(summary: Summary) -> str:
    """Return what a reader must know to understand the numbers."""
    warmup = sum(row.warmup_requests for row in summary.rows)
    if summary.open_loop:
        model = (
            "requests are sent by a schedule; response time = reply received - scheduled; service time = reply - sent"
        )
    else:
        model = "closed loop: each user waits for its reply; service time = reply received - request sent"
    return (
        f"{summary.facts['load_model']}: {model}; {len(summary.rounds)} rounds; {warmup:,} warm-up requests are "
        "excluded; percentiles are nearest-rank, - means too few samples"
    )


def headlines(summary: Summary) -> Iterator[str]:
    """Yield the best paths, for each percentile and way that has verdicts on all its paths."""
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
    """Yield the baseline overhead, and how well the load generator kept its schedule."""
    null = summary.null
    if null is None:
        yield "instrument: no no-op server was loaded, so the baseline overhead is unknown"
    else:
        times = [f"service p50 {milliseconds(null.p50_ms)} ms, p99 {milliseconds(null.p99_ms)} ms"]
        if null.response_p50_ms is not None:
            times.append(
                f"response p50 {milliseconds(null.response_p50_ms)} ms, p99 {milliseconds(null.response_p99_ms)} ms"
            )
        shows = "; ".join(times)
        yield f"instrument: baseline overhead (a no-op server): {shows}; no smaller difference is a path's own"
    worst = max((row for row in summary.rows if row.lateness), key=_share_late, default=None)
    if worst is not None and worst.lateness is not None:
        p50_us, p99_us, over_1ms_share = worst.lateness
        late = f"p50 {p50_us:,.0f} us, p99 {p99_us:,.0f} us, {over_1ms_share:.2%} by more than 1 ms"
        yield f"instrument: scheduling delay at worst ({worst.name}): {late}"
    busiest = max((row.generator_cpu for row in summary.rows if row.generator_cpu is not None), default=None)
    if busiest is not None:
        yield f"instrument: the load generator used at most {busiest:.0%} of a core (mean of a path's measurements)"

    clock, drifts_us = (
        summary.facts["clock"],
        [measurement["clock"]["drift_us"] for measurement in summary.facts["measurements"]],
    )
    words = [
        f"steps of {clock['smallest_step_ns']} ns",
        *(str(clock[name]) for name in ("source", "timer") if name in clock),
    ]
    drift_us = max(drifts_us, default=0) - min(drifts_us, default=0)
    yield f"instrument: clock: {', '.join(words)}; the wall clock stayed within {drift_us:,.0f} us of it"


def warm_up(summary: Summary) -> Iterator[str]:
    """Yield how long each path was warmed up, and whether it was stable then."""
    for found in summary.facts["warmup"]:
        if found["stack"] != NO_OP.stack:
            name = name_of(found)
            state = "until its median was stable" if found["stable"] else "and its median was not stable yet"
            yield f"warm-up: {name}: {found['seconds']:.1f} s, {found['requests']:,} requests, {state}"


def _share_late(row: Row) -> tuple[float, float]:
    return (row.lateness.over_1ms_share, row.lateness.p99_us) if row.lateness else (0.0, 0.0)


def coordinated_omission_warnings(summary: Summary) -> Iterator[str]:
    """Yield where a closed loop would have reported another p99 than the open loop."""
    for row in summary.rows:
        waiting, response_ms = row.waiting_caller, row.response_p99_ms
        if waiting and response_ms and response_ms > APART * waiting.high_ms:
            yield (
                f"{row.name}: p99 is {milliseconds(response_ms)} ms by the schedule; a closed-loop caller "
                f"would have reported {milliseconds(waiting.p99_ms)} ms (coordinated omission)"
            )


def reproduce(summary: Summary) -> Iterator[str]:
    """Return the commands that reproduce this run, as far as possible."""
    yield f"again: git checkout {str(summary.facts['git_commit']).partition('-dirty')[0]} && {command(summary)}"


def command(summary: Summary) -> str:
    """Return the command line of the load test, from the arguments that it recorded; FILE has a side's addresses."""
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
    words += [f"--side {side}=FILE" for side in dict.fromkeys(row.side for row in summary.rows if row.side)]
    return " ".join(words)


def milliseconds(value: float | None) -> str:
    """Return a latency in ms with three decimals, or "-" where there is none."""
    return "-" if value is None else f"{value:,.3f}"


def share(row: Row) -> str:
    """Return the gateway's own part of the service time, or "-"."""
    return "-" if row.gateway_share is None else f"{row.gateway_share:.0%}"


def origins(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield capacity and scorecard by name, each with its own day and commit, where one of them is not the run's."""
    for name, found in (("capacity", summary.capacity), ("scorecard", summary.scorecard)):
        if when := attachments.origin(found or {}, summary.facts):
            yield name, when


def answer(summary: Summary) -> attachments.Answer | None:
    """Return the capacities as an answer, None while they have not been measured."""
    if summary.capacity is None:
        return None
    return attachments.capacity_answer(summary.capacity, {row.path: row.engine_label for row in summary.rows})


def capacity(summary: Summary) -> Iterator[str]:
    """Yield the answer and a line for each path; nothing while it has not been measured."""
    if summary.capacity is not None:
        yield str(answer(summary))
        yield from attachments.capacity_lines(summary.capacity)
