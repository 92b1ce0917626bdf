"""A headless browser, for the pages that imsim writes."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

# Nothing here may look for updates, or leave anything behind.
OPTIONS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-sandbox",
    "--enable-logging=stderr",
    "--log-level=0",
    "--virtual-time-budget=5000",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _program() -> str:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None or sys.platform != "linux":
        pytest.skip("no Chromium to open the page with")
    return program


def rendered(page: Path, profile: Path, fragment: str = "") -> tuple[str, list[str]]:
    """Open a page from disk; return its elements after the script ran, and the console's lines."""
    done = subprocess.run(
        [
            _program(),
            *OPTIONS,
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri() + fragment,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, re.findall(r".*:CONSOLE.*", done.stderr)


@contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Browser]:
    """Start a browser with hands; skip the test where there is none."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program()
    for option in (*OPTIONS[:-1], f"--window-size={width},{height}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    path = shutil.which("chromedriver")
    if path is None:
        pytest.skip("no chromedriver to move the pointer with")
    # With both paths given, Selenium looks for nothing on the network.
    driver = webdriver.Chrome(options, Service(executable_path=path))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What a reader does with a page of two images."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, fragment: str = "") -> None:
        """Open a page from disk, and wait until its numbers are there."""
        self.driver.get("about:blank")
        self.driver.get(page.as_uri() + fragment)
        ready = "return document.documentElement.dataset.ready"
        WebDriverWait(self.driver, 30).until(lambda driver: driver.execute_script(ready))

    def beyond(self, page: Path, width: int) -> list[str]:
        """Open a page in a window of this width; return what sticks out and cannot be scrolled."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())
        found: list[str] = self.driver.execute_script(
            "const scrolls = (e) => e && (getComputedStyle(e).overflowX !== 'visible'"
            "  || scrolls(e.parentElement));"
            "return [...document.querySelectorAll('body *')]"
            "  .filter((e) => e.getBoundingClientRect().right > arguments[0] + 1)"
            "  .filter((e) => !scrolls(e.parentElement))"
            "  .map((e) => `${e.tagName}.${e.className}`)",
            width,
        )
        return found

    def point(self, layer: str, u: float, v: float) -> dict[str, str]:
        """Move the pointer to a place of a picture, in shares of its size; read the values."""
        frame = self.driver.find_element(By.CSS_SELECTOR, f"#picture-{layer} .frame")
        box = self.driver.execute_script(
            "arguments[0].scrollIntoView({ block: 'center' });"
            "const b = arguments[0].getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]",
            frame,
        )
        left, top, width, height = box
        actions = webdriver.ActionChains(self.driver, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(
            int(left + u * width), int(top + v * height)
        )
        actions.perform()
        return self.values()

    def follow(self, layer: str) -> dict[str, str]:
        """Click on "largest difference" below a picture; read the values."""
        link = self.driver.find_element(By.CSS_SELECTOR, f"#picture-{layer} .below a")
        self.driver.execute_script("arguments[0].click()", link)
        WebDriverWait(self.driver, 5).until(lambda _: "(held)" in self.values()["place"])
        return self.values()

    def values(self) -> dict[str, str]:
        """Return what the readout says."""
        values: dict[str, str] = self.driver.execute_script(
            "return Object.fromEntries([...document.querySelectorAll('dd')]"
            ".map((e) => [e.dataset.value, e.textContent]))"
        )
        return values

    def shown(self, layer: str) -> np.ndarray:
        """Return the pixels of a picture as the screen shows them: rows of red, green, blue."""
        frame = self.driver.find_element(By.CSS_SELECTOR, f"#picture-{layer} .frame")
        self.driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", frame)
        return np.asarray(Image.open(io.BytesIO(frame.screenshot_as_png)).convert("RGB"))

    def press(self, key: str) -> dict[str, str]:
        """Press a key on the first picture; read the values."""
        self.driver.find_element(By.CSS_SELECTOR, ".frame").send_keys(key)
        return self.values()

    def looks(self, width: int, scheme: str) -> None:
        """Give the window a width, and choose the colours of the system: light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def problems(self) -> list[str]:
        """Return what the browser complained about."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


def accessible(reader: Browser) -> None:
    """Let axe-core look at a page, which may have no serious fault; skip without it."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("no axe_core_python to check the page with")
    script = Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    reader.driver.execute_script(script)
    results = reader.driver.execute_async_script(
        "axe.run(document).then(arguments[arguments.length - 1])"
    )
    assert len(results["passes"]) > 20  # it has looked
    assert [
        (fault["id"], fault["impact"], [node["html"] for node in fault["nodes"]])
        for fault in results["violations"]
    ] == []
