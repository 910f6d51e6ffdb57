"""The pictures of a run, and what an open loop shows that a closed one hides."""

from collections.abc import Iterator, Mapping, Sequence

from report import charts, series
from report.document import Block, Bullets, Chart, Controls, Detail, Line, Swatch, Text
from report.documents.phrases import milliseconds
from report.summary import Summary

# Where the two are further apart than this, and not by chance, a closed loop would have hidden something.
APART = 1.2
PICTURES = {
    "distribution": (
        "Latency by percentile",
        (
            "Read upwards from a percentile: p99 is what one request in a hundred exceeds. The last points of a "
            "line rest on single requests."
        ),
    ),
    "time": (
        "Over time",
        (
            "Each point is the median of a quarter of a second, the line above it reaches to its slowest request. "
            "The paths take turns; Shift and the wheel zoom, dragging moves."
        ),
    ),
    "parts": (
        "Where the time goes",
        (
            "Means of service times, since means add up. The queue is the wait in the gateway for a place in a "
            "call, and the gateway's part is without it; the backend's is from the gateway's sending to the "
            "server's reply, its queue and both ways included; what remains is the client and the network. "
            "Directly, nobody tells them apart."
        ),
    ),
}
OPEN_LOOP = (
    "Requests leave by a schedule drawn in advance, whether or not earlier ones have been answered, as they do "
    "when many independent callers share a service. Response time counts from the scheduled moment. A load test "
    "whose callers wait for each reply (a closed loop) asks less while the service stands still, and so leaves "
    "out just the requests that would have waited: coordinated omission. What a closed-loop caller would have "
    "reported is worked out from the same rows."
)
CLOSED_LOOP = (
    "This run was a closed loop: each caller waited for its reply before it asked again. While a service stands "
    "still, such callers ask nothing, so the wait of everybody else is missing from these numbers (coordinated "
    "omission). They are service times and say nothing about overload; an open-loop run measures from the "
    "schedule."
)


def pictures(
    summary: Summary, drawn: Mapping[str, charts.Spec], lines: Sequence[series.Series], colours: Mapping[str, str]
) -> Iterator[Block]:
    """Yield what a reader may choose in the pictures, and each that was drawn."""
    if not drawn:
        yield Text("There is nothing to draw: no path has right answers alone.", detail=Detail.FULL)
        return
    shown = (
        Line(each.key, each.name, each.engine, Swatch(colours[each.path], dashed=each.via == "gateway"))
        for each in lines
    )
    yield Controls(summary.open_loop, tuple(shown), summary.rounds)
    for name, (title, caption) in PICTURES.items():
        yield Chart(name, title, caption, drawn[name])


def open_loop(summary: Summary) -> Iterator[Block]:
    """Yield what the load model means, and where a closed loop would have told something else."""
    yield Text(OPEN_LOOP if summary.open_loop else CLOSED_LOOP, detail=Detail.FULL)
    if summary.open_loop:
        found = [Text(line) for line in coordinated_omission_warnings(summary)]
        hidden = bool(found)
        unknown = [str(row.name) for row in summary.rows if not (row.waiting_caller and row.response_p99_ms)]
        if unknown:
            why = "one waiting caller would have recorded too few responses"
            found.append(Text(f"Not known of {', '.join(unknown)}: {why}.", detail=Detail.FULL))
        if not hidden and (len(unknown) < len(summary.rows) or not unknown):
            same = (
                "On the others it would have recorded the same p99 within 20 %."
                if unknown
                else "Here it would have recorded the same p99 within 20 % on every path."
            )
            found.append(Text(same, detail=Detail.FULL))
        yield Bullets(tuple(found))


def coordinated_omission_warnings(summary: Summary) -> Iterator[str]:
    """Yield where a closed loop would have reported another p99 than the open loop."""
    for row in summary.rows:
        waiting, response_ms = row.waiting_caller, row.response_p99_ms
        if waiting and response_ms and response_ms > APART * waiting.high_ms:
            yield (
                f"{row.name}: p99 is {milliseconds(response_ms)} ms by the schedule; a closed-loop caller "
                f"would have reported {milliseconds(waiting.p99_ms)} ms (coordinated omission)"
            )
