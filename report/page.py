"""The summary as one HTML file that needs nothing else: no script, no font, no picture from anywhere."""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report import charts, terminal
from report.summary import EMBEDDED, Summary, compare

TEMPLATE = "page.html.j2"


def render(summary: Summary) -> str:
    """Give the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ms=terminal.milliseconds, share=terminal.share)
    added = {(entry["model"], entry["stack"]): entry["gateway_less_direct_p50_ms"] for entry in compare(summary.rows)}
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        facts=summary.facts,
        when=datetime.fromisoformat(summary.facts["started"]),
        commit=terminal.commit_of(summary),
        legend=terminal.legend(summary),
        embedded=EMBEDDED,
        added=added,
        busiest=max((block["generator_cpu"] for block in summary.facts["blocks"]), default=0.0),
        lanes=charts.lanes(summary.rows),
        tail=charts.tail(summary.rows),
        colours=charts.colours(summary.rows),
    )
