"""The gateway's status as a page that needs no JavaScript, http://127.0.0.1:9464/, and as JSON, /status.json.

What comes from servers, such as an engine's name, is escaped where it is written: in `_element` and nowhere else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from http.client import HTTPException
from urllib.request import urlopen

from services.dataplane.metrics_server import Page, Pages
from services.gateway.metrics import BUCKETS_OVERHEAD_S, BUCKETS_S
from services.gateway.recent import quantile
from services.gateway.status import PathStatus, Status, added, from_json, to_json

REFRESH_S = 5
TIMEOUT_S = 2.0
STATUS_JSON = "/status.json"
SHORT_HASH = 12
NONE = "-"
STYLE = """
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --ink: #1b1f24; --dim: #57606a; --edge: #d0d7de;
  --good: #116329; --good-ground: #dafbe1; --bad: #a40e26; --bad-ground: #ffebe9; --link: #0550ae }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --card: #161b22; --ink: #e6edf3; --dim: #9198a1;
  --edge: #30363d; --good: #7ee787; --good-ground: #12341d; --bad: #ffa198; --bad-ground: #4b1113; --link: #79c0ff } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif }
h1 { font-size: 1.35rem; margin: 0 } h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere }
a { color: var(--link) }
header { margin-bottom: 1rem } header p { color: var(--dim); margin: .2rem 0 } nav { display: flex; gap: 1rem }
main { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
section { background: var(--card); border: 1px solid var(--edge); border-radius: .5rem; padding: .8rem 1rem }
section > div { display: flex; gap: .6rem; align-items: baseline; justify-content: space-between }
strong { border-radius: 1rem; padding: 0 .6rem; white-space: nowrap; font-size: .9rem }
strong.good { color: var(--good); background: var(--good-ground) }
strong.bad { color: var(--bad); background: var(--bad-ground) }
p.bad { color: var(--bad); margin: .5rem 0 0; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .6rem 0 0 }
dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
"""


def pages(status: Callable[[], Status]) -> Pages:
    """Return the pages of one process."""
    return {
        "/": Page("text/html", lambda: render(status())),
        STATUS_JSON: Page("application/json", lambda: to_json(status())),
    }


def merged_pages(addresses: Callable[[], Mapping[str, str]]) -> Pages:
    """Return the pages of several processes; `addresses`: HOST:PORT of their metrics, by name."""
    return pages(lambda: added(_ask(addresses().values())))


def _ask(addresses: Iterable[str]) -> list[Status]:
    """Return the status of every process that answers; all are asked at once, so that one may hang."""
    with ThreadPoolExecutor() as pool:
        found = pool.map(_asked, addresses)
        return [status for status in found if status is not None]


def _asked(address: str) -> Status | None:
    try:
        with urlopen(f"http://{address}{STATUS_JSON}", timeout=TIMEOUT_S) as reply:
            return from_json(reply.read().decode())
    except (OSError, HTTPException, ValueError):  # it is just starting or ending, maybe amid its reply
        return None


def render(status: Status) -> str:
    """Return the page."""
    ready = sum(path.ready for path in status.paths)
    count = "no process answers" if not status.processes else f"{status.processes} processes, their figures added up"
    facts = [f"version {status.version}", f"up {_span(status.up_s)}"] + ([count] if status.processes != 1 else [])
    if status.unknown:
        facts.append(f"calls that named no path or could not be read: {_shown_codes(status.unknown)}")
    head = "".join(
        (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="refresh" content="{REFRESH_S}">',
            '<link rel="icon" href="data:,">',  # or browsers ask for one
            _element("title", f"{ready} of {len(status.paths)} paths ready - ServePath gateway"),
            f"<style>{STYLE}</style>",
        )
    )
    header = "".join(
        (
            _element("h1", f"ServePath gateway: {ready} of {len(status.paths)} paths ready"),
            _element("p", ", ".join(facts)),
            _element("p", f"deployments.toml is not in use: {error}", "bad")
            if (error := status.deployments_error)
            else "",
            '<nav><a href="metrics">metrics</a> <a href="status.json">this page as JSON</a></nav>',
        )
    )
    cards = "\n".join(_card(path, status) for path in status.paths)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n'
        f"<body><header>{header}</header>\n<main>\n{cards}\n</main></body></html>\n"
    )


def _card(path: PathStatus, status: Status) -> str:
    state = _element("strong", "ready", "good") if path.ready else _element("strong", "not ready", "bad")
    problems = [
        *([f"Not ready: {path.fault or 'no reason known'}"] if not path.ready else []),
        *([f"A replica is not ready: {path.fault}"] if path.ready and path.fault else []),
        *([f"Refused: {path.refused}"] if path.refused and path.refused != path.fault else []),
        *([f"Requests are not batched: {path.unbatched}"] if path.unbatched else []),
    ]
    rows = "".join(_element("dt", name) + _element("dd", text) for name, text in _facts(path, status))
    return "".join(
        (
            "<section><div>",
            _element("h2", f"{path.model}@{path.stack}"),
            f"{state}</div>",
            *(_element("p", problem, "bad") for problem in problems),
            f"<dl>{rows}</dl></section>",
        )
    )


def _facts(path: PathStatus, status: Status) -> Sequence[tuple[str, str]]:
    p50, p99 = (_shown_s(quantile(BUCKETS_S, path.durations, share)) for share in (0.5, 0.99))
    recent = f"{sum(path.durations)} in the last {status.recent_s:.0f} s"
    share = f"{path.weight:g} % of calls for {path.model}" + (" (default)" if path.is_default else "")
    return (
        ("engine", f"{path.engine} {path.engine_version}".strip() or NONE),
        ("precision", path.precision or NONE),
        ("artifact", f"version {path.version or NONE}, {path.sha256[:SHORT_HASH] or 'hash not known'}"),
        ("proof", _shown_proof(path)),
        ("weight", share),
        ("calls", f"{path.calls} since the start, {recent}"),
        ("errors", _shown_codes(path.errors) or "none"),
        ("p50, p99", f"{p50}, {p99}"),
        ("gateway p50", _shown_s(quantile(BUCKETS_OVERHEAD_S, path.overheads, 0.5))),
        ("in flight", f"{path.in_flight}, waiting {path.queued}"),
        ("merging", _shown_merging(path.merging, status.processes)),
        *([("labels", path.version_labels)] if path.version_labels else []),
        *([("versions", ", ".join(map(str, path.versions)))] if len(path.versions) > 1 else []),
        *([("shadow", path.shadow)] if path.shadow else []),
        *([("replicas", f"{path.usable} of {path.replicas} get calls")] if path.replicas > status.processes else []),
    )


def _shown_codes(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(calls.items()))


def _shown_proof(path: PathStatus) -> str:
    if path.difference is None:
        return "refused" if path.refused else "not proven"
    return f"{path.difference:.2g} from the reference at most"


def _shown_merging(merging: int, processes: int) -> str:
    if merging in {0, processes}:
        return "on" if merging else "off"
    return f"on in {merging} of {processes} processes"


def _shown_s(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds == float("inf"):
        return f"above {BUCKETS_S[-1]} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _span(seconds: float) -> str:
    """Return a time as its two largest units."""
    rest, parts = int(seconds), list[str]()
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if count := rest // size:
            parts.append(f"{count} {name}")
        rest %= size
    return " ".join(parts[:2]) or "0 s"


def _element(name: str, text: str, kind: str = "") -> str:
    """Return an element with a text, which is escaped. `name`, `kind`: ours."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{escape(text)}</{name}>"
