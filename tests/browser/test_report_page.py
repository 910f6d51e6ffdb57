import json
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import DESK, PHONE

CHARTS = ["latency-by-cost", "capacity-by-cost", "distribution", "time", "parts", "capacity"]
FOCUSED = """
const at = document.activeElement;
return [at.tagName, at.name || at.getAttribute('aria-label') || at.hash || '', at.value || ''];
"""
TOO_WIDE = """
return [...document.querySelectorAll('svg, form, h1, h2, p, li, pre')].filter(
    (each) => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth + 1).length;
"""
# Of a colour, from 0 to 255.
LIGHTNESS = """
const colour = getComputedStyle(document.querySelector(arguments[0]))[arguments[1]];
return colour.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3;
"""
CUT = """
return [...document.querySelectorAll('.chart > svg, .chart .chart-wrapper svg')].flatMap((svg) => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter((text) => {
        const found = text.getBoundingClientRect();
        return getComputedStyle(text).opacity !== '0' && (found.left < box.left - 1 || found.right > box.right + 1);
    }).map((text) => text.textContent);
});
"""
# Of the first picture that has each.
SIGNALS = """
const known = (view) => view.getState({data: () => false, signals: () => true}).signals;
return [...arguments].map((name) => known(views.find((view) => name in known(view)))[name]);
"""
TRANSPARENT = "rgba(0, 0, 0, 0)"
MARKS = "return document.querySelectorAll(`#chart-${arguments[0]} svg .mark-${arguments[1]} path`).length"


def test_the_page_opens_without_a_complaint_and_without_asking_the_net(opened: Any) -> None:
    assert opened.driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in opened.driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert any(url.startswith("file:") for url in asked)


def test_a_page_that_asks_the_net_is_kept_from_it(opened: Any) -> None:
    opened.script("const image = new Image(); image.src = 'https://127.0.0.1:9/x.png'; document.body.append(image)")
    opened.script("return new Promise((done) => setTimeout(done, 200))")
    assert any("Content Security Policy" in entry["message"] for entry in opened.driver.get_log("browser"))


def test_every_picture_is_drawn(opened: Any) -> None:
    for name in CHARTS:
        box = opened.script("return document.querySelector(`#chart-${arguments[0]} svg`).getBoundingClientRect()", name)
        assert box["width"] > 300
        assert box["height"] > 100
    assert opened.script(MARKS, "latency-by-cost", "symbol") == 8 + 2 + 4 + 2  # points, rings, legends
    assert opened.script(MARKS, "distribution", "line") == 9
    assert opened.script(MARKS, "time", "symbol") > 300
    assert opened.script(MARKS, "parts", "rect") == 4 + 4 * 4
    assert opened.script(MARKS, "capacity", "line") == 8
    assert (
        opened.script("return document.querySelectorAll('#chart-capacity svg .mark-rule.role-mark line').length") == 1
    )


def test_the_form_chooses_paths_metric_and_round(opened: Any) -> None:
    before = opened.script(MARKS, "time", "symbol")
    opened.driver.find_element(By.CSS_SELECTOR, "[name=shown]").click()
    opened.settle()
    assert opened.script(MARKS, "distribution", "line") == 8
    assert opened.script(MARKS, "time", "symbol") < before
    opened.driver.find_element(By.CSS_SELECTOR, "[name=metric][value=service]").click()
    opened.driver.find_element(By.CSS_SELECTOR, "option[value='3']").click()
    opened.settle()
    assert opened.script(SIGNALS, "metric", "round") == ["service", 3]
    assert 0 < opened.script(MARKS, "time", "symbol") < before / 10


def test_every_control_and_table_is_reached_with_the_keyboard(opened: Any) -> None:
    reached = []
    for _ in range(60):
        ActionChains(opened.driver).send_keys(Keys.TAB).perform()
        reached.append(tuple(opened.script(FOCUSED)))
    assert reached[0] == ("A", "#results", "")
    assert {("INPUT", "shown", str(key)) for key in range(9)} < set(reached)
    for place in [("INPUT", "metric"), ("SELECT", "round"), ("DIV", "Results by path"), ("DIV", "Fairness manifest")]:
        assert place in [found[:2] for found in reached]
    assert [found[0] for found in reached].count("SUMMARY") >= 1 + len(CHARTS)


def test_a_choice_by_keyboard_changes_the_picture(opened: Any) -> None:
    opened.driver.find_element(By.CSS_SELECTOR, "[name=shown]").send_keys(Keys.SPACE)
    opened.settle()
    assert opened.script(MARKS, "distribution", "line") == 8


def test_focus_is_seen(opened: Any) -> None:
    ActionChains(opened.driver).send_keys(Keys.TAB).perform()
    assert opened.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_a_phone_nothing_scrolls_sideways_but_tables(opened: Any) -> None:
    opened.resize(PHONE)
    opened.settle()
    opened.screenshot("phone")
    assert opened.script("return document.documentElement.scrollWidth") == PHONE[0]
    assert opened.script(TOO_WIDE) == 0
    assert opened.script(CUT) == []
    assert opened.script("return document.querySelector('.scroll table').scrollWidth") > PHONE[0]


def test_in_the_dark_words_stay_readable(opened: Any) -> None:
    opened.emulate(scheme="dark")
    opened.script("return new Promise((done) => setTimeout(done, 100))")
    opened.screenshot("dark")
    assert opened.script(LIGHTNESS, "section", "backgroundColor") < 60
    assert opened.script(LIGHTNESS, "body", "color") > 180
    assert opened.script(LIGHTNESS, "#chart-distribution svg text", "fill") > 180


def test_printed_it_shows_pictures_and_tables_but_no_controls(opened: Any) -> None:
    opened.screenshot("desk")
    opened.emulate(media="print")
    assert not opened.driver.find_element(By.ID, "controls").is_displayed()
    assert opened.driver.find_element(By.CSS_SELECTOR, "#chart-distribution svg").is_displayed()
    assert opened.script("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert opened.script("return getComputedStyle(document.querySelector('.badge')).backgroundColor") == TRANSPARENT
    assert opened.script("return innerWidth") == DESK[0]
    opened.screenshot("print")
