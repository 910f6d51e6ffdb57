import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from services.gateway.metrics import BUCKETS_OVERHEAD_S, BUCKETS_S
from services.gateway.status import PathStatus, Status, added, from_json, to_json
from services.gateway.status_page import REFRESH_S, merged_pages, render

QUIET = [0] * (len(BUCKETS_S) + 1)
PATH = PathStatus(
    model="alpha",
    stack="onnx",
    is_default=True,
    weight=90.0,
    ready=True,
    fault="",
    engine="onnxruntime",
    engine_version="1.30",
    precision="fp32",
    version=3,
    sha256="0123456789abcdef" * 4,
    difference=1.2e-7,
    refused="",
    unbatched="",
    calls=12,
    errors={"UNAVAILABLE": 2, "INTERNAL": 1},
    durations=[0, 0, 0, 98, 0, 1, 1, *QUIET[7:]],
    overheads=[0, 0, 100, *[0] * (len(BUCKETS_OVERHEAD_S) - 2)],
    in_flight=2,
    queued=7,
    merging=1,
    replicas=1,
    usable=1,
    shadow="",
)
STATUS = Status("0.1.0", 1, 3725.0, 60.4, {}, [PATH])
EVIL = "<script>alert('&\"')</script>"


class Read(HTMLParser):
    """What a page has: its elements, and the terms of its paths."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def terms(self) -> dict[str, str]:
        found = [text for tag, text in self.texts if tag in {"dt", "dd"}]
        return dict(zip(found[::2], found[1::2], strict=True))

    def problems(self) -> list[str]:
        return self.all("p")[1:]

    def all(self, tag: str) -> list[str]:
        return [text for each, text in self.texts if each == tag and text.strip()]


def test_a_path_is_shown_with_all_that_is_known_of_it() -> None:
    page = Read(render(STATUS))
    assert page.terms() == {
        "engine": "onnxruntime 1.30",
        "precision": "fp32",
        "artifact": "version 3, 0123456789ab",
        "proof": "1.2e-07 from the reference at most",
        "weight": "90 % of calls for alpha (default)",
        "calls": "12 since the start, 100 in the last 60 s",
        "errors": "INTERNAL 1, UNAVAILABLE 2",
        "p50, p99": "0.378 ms, 2.5 ms",
        "gateway p50": "0.0875 ms",
        "in flight": "2, waiting 7",
        "merging": "on",
    }
    assert (page.all("h2"), page.all("strong"), page.problems()) == (["alpha@onnx"], ["ready"], [])
    assert page.all("title") == ["1 of 1 paths ready - ServePath gateway"]
    assert "version 0.1.0, up 1 h 2 min" in page.all("p")


def test_a_path_without_calls_shows_no_figures() -> None:
    idle = replace(
        *(PATH,), calls=0, errors={}, durations=QUIET, overheads=[0] * len(PATH.overheads), difference=None, merging=0
    )
    terms = Read(render(replace(STATUS, paths=[idle]))).terms()
    shown = {name: terms[name] for name in ("calls", "errors", "p50, p99", "gateway p50", "proof", "merging")}
    assert list(shown.values()) == ["0 since the start, 0 in the last 60 s", "none", "-, -", "-", "not proven", "off"]


def test_a_path_that_never_answered_shows_dashes_for_what_is_unknown() -> None:
    unknown = replace(PATH, ready=False, fault="", engine="", engine_version="", precision="", version=0, sha256="")
    page = Read(render(replace(STATUS, paths=[unknown])))
    terms = page.terms()
    assert [terms[name] for name in ("engine", "precision", "artifact")] == ["-", "-", "version -, hash not known"]
    assert page.problems() == ["Not ready: no reason known"]


def test_a_refused_path_says_so_once_and_why() -> None:
    refused = replace(PATH, ready=False, fault="output 'y' is off", refused="output 'y' is off", difference=None)
    page = Read(render(replace(STATUS, paths=[refused])))
    assert (page.all("strong"), page.problems()) == (["not ready"], ["Not ready: output 'y' is off"])
    assert page.terms()["proof"] == "refused"
    assert page.all("h1") == ["ServePath gateway: 0 of 1 paths ready"]


def test_a_path_whose_requests_are_not_batched_says_why() -> None:
    page = Read(render(replace(STATUS, paths=[replace(PATH, unbatched="in a batch of 2 rows, y is off")])))
    assert page.problems() == ["Requests are not batched: in a batch of 2 rows, y is off"]


def test_a_time_above_the_last_bucket_is_no_figure() -> None:
    slow = replace(PATH, durations=[*QUIET[:-1], 5])
    assert Read(render(replace(STATUS, paths=[slow]))).terms()["p50, p99"] == "above 30 s, above 30 s"


def test_whatever_a_server_says_is_text_and_no_element() -> None:
    texts = dict.fromkeys(
        ("model", "stack", "fault", "engine", "engine_version", "precision", "sha256", "refused", "unbatched"), EVIL
    )
    page = render(
        Status(EVIL, 1, 0, 0, {EVIL: 1}, [replace(PATH, **texts, ready=False, errors={EVIL: 1})])  # type: ignore[arg-type]
    )
    assert "<script" not in page
    assert {tag for tag, _ in Read(page).elements} == {
        *("html", "head", "meta", "link", "title", "style", "body", "header", "h1", "p", "nav", "a", "main"),
        *("section", "div", "h2", "strong", "dl", "dt", "dd"),
    }
    assert EVIL in Read(page).terms()["engine"]


def test_the_page_renews_itself_fits_a_phone_and_needs_nothing_else() -> None:
    page = Read(render(STATUS))
    metas = [attributes for tag, attributes in page.elements if tag == "meta"]
    assert {"http-equiv": "refresh", "content": str(REFRESH_S)} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ["metrics", "status.json"]
    assert not re.search(r"src=|url\(|@import| on\w+=", render(STATUS))


def test_several_processes_are_added_up_and_a_fault_of_one_is_a_fault() -> None:
    other = replace(
        *(PATH,),
        ready=False,
        fault="gone",
        difference=1e-6,
        unbatched="off",
        calls=1,
        errors={"INTERNAL": 4},
        merging=0,
    )
    both = added([STATUS, replace(STATUS, up_s=9, paths=[other])])
    assert (both.processes, both.up_s) == (2, 3725.0)
    (path,) = both.paths
    assert (path.ready, path.fault, path.unbatched, path.difference) == (False, "gone", "off", 1e-6)
    assert (path.calls, path.errors, path.in_flight, path.queued) == (13, {"UNAVAILABLE": 2, "INTERNAL": 5}, 4, 14)
    assert list(path.durations) == [2 * count for count in PATH.durations]
    page = Read(render(both))
    assert page.terms()["merging"] == "on in 1 of 2 processes"
    assert "2 processes, their figures added up" in page.all("p")[0]


def test_calls_that_named_no_path_are_told_in_the_header() -> None:
    lost = replace(STATUS, unknown={"NOT_FOUND": 2})
    told = "calls that named no path or could not be read"
    assert f"{told}: NOT_FOUND 4" in Read(render(added([lost, lost]))).all("p")[0]
    assert told not in render(STATUS)


def test_where_no_process_answers_the_page_says_so() -> None:
    page = Read(merged_pages(dict)["/"].body())
    assert "no process answers" in page.all("p")[0]


@pytest.mark.parametrize("difference", [None, 0.5])
def test_a_status_survives_json(difference: float | None) -> None:
    status = replace(STATUS, paths=[replace(PATH, difference=difference)])
    assert from_json(to_json(status)) == status
    assert json.loads(to_json(status))["paths"][0]["model"] == "alpha"


def test_a_replica_that_is_not_ready_and_a_file_that_cannot_be_used_are_shown() -> None:
    path = replace(PATH, replicas=2, usable=1, fault="down", shadow="shadow of 10 %: 3 different")
    page = render(replace(STATUS, paths=[path], deployments_error="line 4: <no>"))
    assert "A replica is not ready: down" in page
    assert "1 of 2 get calls" in page
    assert "shadow of 10 %: 3 different" in page
    assert "deployments.toml is not in use: line 4: &lt;no&gt;" in page
    both = added([replace(STATUS, paths=[path], deployments_error="line 4"), replace(STATUS, paths=[path])])
    assert (both.paths[0].replicas, both.paths[0].usable, both.deployments_error) == (4, 2, "line 4")
