"""The summary as one HTML file that needs nothing else: library, data and style are inside, nothing is fetched."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report import attachments, cards, charts, fairness, sentences, series
from report.summary import EMBEDDED, Summary, commit_label, compare
from report.verdicts import TOO_CLOSE, Verdict

HERE = Path(__file__).parent
TEMPLATE = "page.html.j2"
# The Vega-Lite whose specifications charts.py writes.
VEGA_LITE = "6.4"
# What verdicts are about, by their family; of two paths, how both are reached.
ABOUT = {
    "path direct": "Between paths, reached directly",
    "path gateway": "Between paths, through the gateway",
    "gateway": "What the gateway costs",
    "side": "Between servers of the same path",
}


class Entry(NamedTuple):
    """A key of the fairness manifest: its values, with who has each, everybody if that is empty."""

    key: str
    kind: str
    values: tuple[tuple[str, str], ...]


def render(summary: Summary) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(ms=sentences.milliseconds, share=sentences.share)
    lines = series.series(summary)
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        facts=summary.facts,
        when=datetime.fromisoformat(summary.facts["started"]),
        commit=commit_label(summary.facts["git_commit"]),
        origins=dict(sentences.origins(summary)),
        embedded=EMBEDDED,
        sentences=sentences,
        cards=cards,
        added={
            (entry["model"], entry["stack"]): entry["gateway_less_direct_p50_ms"] for entry in compare(summary.rows)
        },
        verdicts=verdict_groups(summary),
        too_close=TOO_CLOSE,
        manifest=manifest(summary.facts["fairness"]),
        answer=sentences.answer(summary),
        attachments=attachments,
        lines=lines,
        colours=charts.colours(lines),
        **_inline(charts.charts(summary)),
    )


def verdict_groups(summary: Summary) -> dict[str, list[Verdict]]:
    """Return the verdicts by what they are about, those that decide first."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in sorted(summary.verdicts, key=lambda each: each.verdict not in {"a", "b"}):
        via = verdict.a.rpartition(".")[2]
        about = f"path {via}" if verdict.family == "path" else verdict.family
        groups.setdefault(ABOUT[about], []).append(verdict)
    return groups


def manifest(found: Mapping[str, Any]) -> list[Entry]:
    """Return the fairness manifest by key: the run's, then the paths', one line where all have the same."""
    entries = [Entry(key, item["class"], (("", fairness.short(item["value"])),)) for key, item in found["run"].items()]
    paths: Mapping[str, Any] = found["paths"]
    for key in dict.fromkeys(key for manifest in paths.values() for key in manifest):
        having = {name: items[key] for name, items in paths.items() if key in items}
        values = {name: fairness.short(item["value"]) for name, item in having.items()}
        same = len(set(values.values())) == 1 and len(values) == len(paths)
        shown = (("", next(iter(values.values()))),) if same else tuple(values.items())
        entries.append(Entry(key, next(iter(having.values()))["class"], shown))
    return entries


@cache
def library() -> str:
    """Return the script that draws; putting it together takes a second."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return str(script).replace("</script", "<\\/script")


def _inline(specs: Mapping[str, charts.Spec]) -> dict[str, Any]:
    """Return what goes into the page as it is (`safe`); the library only where there is something to draw."""
    data = json.dumps(specs, separators=(",", ":")).replace("<", "\\u003c")
    return {
        "places": list(specs),
        "style": (HERE / "page.css").read_text(),
        "script": (HERE / "page.js").read_text(),
        "library": library() if specs else "",
        "specs": data,
    }
