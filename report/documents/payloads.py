"""What was sent, as sentences and tables: where requests and expected answers come from, sizes, latency by size."""

from collections.abc import Iterator, Mapping
from typing import Any

from report.document import Block, Column, Detail, Fold, Table, Text, Tone
from report.documents.phrases import cells, milliseconds
from report.sizes import Sizes
from report.summary import Summary
from servepath.results.names import ANSWERS_OF, FROM_FILE, FROM_REFERENCE

# What an expected answer is worth.
WORTH = {
    FROM_REFERENCE: "expected: the float64 reference",
    FROM_FILE: "expected: the outputs in the file, within the model's tolerance",
}
SHA256_LETTERS = 12


def payloads(summary: Summary) -> Iterator[Block]:
    """Yield what was sent; nothing for a run that did not record it."""
    found = summary.facts.get("payloads")
    if found is not None:
        yield Text(_source(found), Tone.SOFT)
        for model, sent in found["models"].items():
            yield Text(
                f"{model}: {sent['requests']:,} requests, {_shapes(sent)}; {_worth(sent['expected'])}", Tone.SOFT
            )
    yield from _sizes(summary)
    yield from _classes(summary)


def agreement(summary: Summary) -> str:
    """Return whose answers the others were held to, MODEL@STACK.VIA; "" where right answers were known."""
    models = summary.facts.get("payloads", {"models": {}})["models"].values()
    firsts = [sent["expected"].removeprefix(ANSWERS_OF) for sent in models if sent["expected"].startswith(ANSWERS_OF)]
    return ", ".join(firsts)


def _source(found: Mapping[str, Any]) -> str:
    if found["source"] == "reference":
        return "Requests are rows of each model's reference."
    return f"Requests are those of {found['file']}, sha256 {found['sha256'][:SHA256_LETTERS]}, again and again."


def _shapes(sent: Mapping[str, Any]) -> str:
    said = [", ".join(f"{name} {shape}" for name, shape in one["inputs"].items()) for one in sent["shapes"]]
    if sent["more_shapes"]:
        said.append(f"and {sent['more_shapes']:,} more shapes")
    return " | ".join(said)


def _worth(expected: str) -> str:
    if expected in WORTH:
        return WORTH[expected]
    return f"expected: the {expected} before the load, within twice the model's tolerance: paths agree, none is proven"


def _sizes(summary: Summary) -> Iterator[Block]:
    rows = [
        cells(row.path, row.way, *_three(row.request_bytes), *_three(row.reply_bytes))
        for row in summary.rows
        if row.request_bytes
    ]
    if rows:
        words = (Column("path", numeric=False), Column("via", numeric=False))
        groups = ("request, bytes", "reply, bytes")
        numbers = (Column(title, group) for group in groups for title in ("mean", "smallest", "largest"))
        table = Table("Sizes of messages by path", (*words, *numbers), tuple(rows), Detail.FULL)
        yield Fold("Sizes of messages", (table,))


def _three(found: Sizes | None) -> tuple[str, str, str]:
    return ("-",) * 3 if found is None else (f"{found.mean:,.1f}", f"{found.smallest:,}", f"{found.largest:,}")


def _classes(summary: Summary) -> Iterator[Block]:
    rows = [
        cells(row.path, row.way, _span(each.smallest_bytes, each.largest_bytes), f"{each.requests:,}")
        + cells(milliseconds(each.p50_ms), milliseconds(each.p99_ms))
        for row in summary.rows
        for each in row.size_classes
    ]
    if rows:
        words = (Column("path", numeric=False), Column("via", numeric=False))
        kind = "response, ms" if summary.open_loop else "service, ms"
        numbers = (Column("request, bytes"), Column("correct"), Column("p50", kind), Column("p99", kind))
        table = Table("Latency by size of the request and path", (*words, *numbers), tuple(rows), Detail.USUAL)
        yield Fold("Latency by size of the request", (table,), opened=True)


def _span(smallest: int, largest: int) -> str:
    return f"{smallest:,}" if smallest == largest else f"{smallest:,}..{largest:,}"
