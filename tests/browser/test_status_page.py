"""The gateway's status page as a browser shows it, from a real server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from selenium.webdriver.common.by import By

from services.dataplane.metrics_server import serve_metrics
from services.gateway.metrics import BUCKETS_OVERHEAD_S, BUCKETS_S
from services.gateway.status import PathStatus, Status
from services.gateway.status_page import pages
from tests.browser.conftest import DESK, PHONE, Page

LONG = "output 'y' is [1.5, 2.5], the reference says [0.5, 2.5]: 1 apart, beyond rtol 1e-05, atol 1e-05"
LIGHTNESS = """
const colour = getComputedStyle(document.querySelector(arguments[0]))[arguments[1]];
return colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3;
"""
TOO_WIDE = """
return [...document.querySelectorAll('section, h1, h2, p, dl, dd')].filter(
    (each) => each.getBoundingClientRect().right > innerWidth + 1).length;
"""


def path(stack: str, *, fault: str = "") -> PathStatus:
    return PathStatus(
        model="a_model_with_a_name_that_is_as_long_as_names_may_be_and_longer",
        stack=stack,
        is_default=not fault,
        weight=50.0,
        ready=not fault,
        fault=fault,
        engine="<b>engine</b>",
        engine_version="1.2.3",
        precision="fp32",
        version=7,
        sha256="0123456789abcdef" * 4,
        difference=1.2e-7,
        refused="",
        unbatched="",
        calls=12345,
        errors={"UNAVAILABLE": 2, "RESOURCE_EXHAUSTED": 17},
        durations=[1] * (len(BUCKETS_S) + 1),
        overheads=[1] * (len(BUCKETS_OVERHEAD_S) + 1),
        in_flight=2,
        queued=100,
        merging=1,
        replicas=2,
        usable=1,
        shadow="shadow of 10 %: 1234 equal, at most 1e-07 apart, promotion: at 50 %" if stack == "tfserving" else "",
    )


@pytest.fixture
def opened(driver: Any) -> Iterator[Page]:
    """Return the page, opened on a desk."""
    paths = [path("onnx"), path("torchserve", fault=LONG), path("tfserving")]
    status = Status("0.1.0", 1, 3725.0, 60.0, {"NOT_FOUND": 3}, paths)
    server = serve_metrics(CollectorRegistry(), "127.0.0.1", 0, pages(lambda: status))
    page = Page(driver)
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what earlier tests left
    page.resize(DESK)
    page.emulate()
    driver.get(f"http://127.0.0.1:{server.port}/")
    yield page
    driver.get("about:blank")  # or it asks again
    server.close()


def texts(page: Page, selector: str) -> list[str]:
    return [found.text for found in page.driver.find_elements(By.CSS_SELECTOR, selector)]


def test_it_shows_the_paths_without_a_complaint(opened: Page) -> None:
    assert opened.driver.title == "2 of 3 paths ready - ServePath gateway"
    assert texts(opened, "section strong") == ["ready", "not ready", "ready"]
    assert texts(opened, "section p") == [f"Not ready: {LONG}"]
    assert "<b>engine</b> 1.2.3" in texts(opened, "dd")
    assert opened.driver.find_elements(By.CSS_SELECTOR, "script") == []
    assert opened.driver.get_log("browser") == []


def test_it_asks_its_own_server_for_nothing_but_itself(opened: Page) -> None:
    events = [json.loads(entry["message"])["message"] for entry in opened.driver.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {opened.driver.current_url}


def test_on_a_phone_nothing_scrolls_sideways(opened: Page) -> None:
    opened.resize(PHONE)
    opened.screenshot("status-phone")
    assert opened.script("return document.documentElement.scrollWidth") == PHONE[0]
    assert opened.script(TOO_WIDE) == 0


def test_in_the_dark_words_stay_readable(opened: Page) -> None:
    opened.screenshot("status")
    assert opened.script(LIGHTNESS, "section", "backgroundColor") > 200
    assert opened.script(LIGHTNESS, "body", "color") < 60
    opened.emulate(scheme="dark")
    opened.screenshot("status-dark")
    assert opened.script(LIGHTNESS, "section", "backgroundColor") < 60
    assert opened.script(LIGHTNESS, "body", "color") > 180
    assert opened.script(LIGHTNESS, "strong.good", "color") > opened.script(LIGHTNESS, "strong.good", "backgroundColor")
