"""Headless Chromium, driven by Selenium, on a page of a synthetic run and on the gateway's status page."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from report.documents import run
from report.summary import build
from report.writers import html
from tests.synthetic_run import MEDIANS_US, add_the_rest, write_run

PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
SCREENSHOTS = Path("results/test-report")
PATHS = MEDIANS_US | {"keras_dense@onnx": 720.0, "simple_nn@torchserve": 3300.0}
DESK, PHONE = (1280, 900), (390, 844)
DRAWN_S = 30


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    """Return where Chromium and its driver are; Debian's packages are installed when missing and we may."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qq", "-y", *missing], check=False, stdout=subprocess.DEVNULL)
    found = {program: shutil.which(program) for program in PROGRAMS}
    if None in found.values():
        pytest.exit(f"not tested: no {' and '.join(missing)} here; as root: apt-get install {' '.join(missing)}", 1)
    return {program: str(path) for program, path in found.items()}


@dataclass(frozen=True)
class Page:
    """An open page."""

    driver: Any

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def resize(self, size: tuple[int, int]) -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < height}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def emulate(self, media: str = "", scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def open(self, path: Path) -> None:
        self.driver.get(path.resolve().as_uri())
        WebDriverWait(self.driver, DRAWN_S).until(lambda driver: driver.find_element(By.CSS_SELECTOR, "[data-drawn]"))

    def settle(self) -> None:
        """Wait until the pictures show what the form says."""
        self.script("return Promise.all(views.map((view) => view.resize().runAsync())).then(() => null)")

    def screenshot(self, name: str) -> Path:
        """Write the whole page, not only what fits in the window."""
        height = self.script("return document.documentElement.scrollHeight")
        width = self.script("return innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"clip": clip, "captureBeyondViewport": True}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        path.write_bytes(base64.b64decode(picture))
        return path


@pytest.fixture(scope="session")
def driver(programs: dict[str, str]) -> Iterator[Any]:
    options = Options()
    options.binary_location = programs["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver is named, so that Selenium looks for none in the net.
    chrome = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="session")
def report_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "synthetic"
    write_run(folder, rounds=20, requests=670, medians_us=PATHS)
    add_the_rest(folder, PATHS)
    path = folder / "report.html"
    path.write_text(html.render(run.document(build(folder))))
    return path


@pytest.fixture
def opened(driver: Any, report_html: Path) -> Page:
    """Return the page, freshly opened on a desk."""
    found = Page(driver)
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what earlier tests left
    found.resize(DESK)
    found.emulate()
    found.open(report_html)
    return found
