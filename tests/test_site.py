"""The site that `make docs` wrote last, seen by a browser; skipped where there is none of today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from documents import DOCS, ROOT
from headless import Browser, browser

import imsim

SITE = ROOT / "build" / "docs"
SOURCES = [*DOCS.glob("*.*"), *DOCS.glob("_static/*"), *DOCS.glob("_extensions/*.py")]
PAGES = ("index", "conventions", "masks", "command_line", "api", "generated/metrics/ssim")


@pytest.fixture(scope="module")
def reader() -> Iterator[Browser]:
    written = SITE / "index.html"
    if not written.exists():
        pytest.skip("the site is not there: make docs")
    if written.stat().st_mtime < max(path.stat().st_mtime for path in SOURCES):
        pytest.skip("the site is older than its sources: make docs")
    with browser(1200, 900) as found:
        yield found


def ask(reader: Browser, page: str, script: str, width: int = 1200) -> Any:
    """Open a page in a window of this width, and run a script there."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    reader.driver.get((SITE / f"{page}.html").as_uri())
    return reader.driver.execute_script(script)


@pytest.mark.parametrize("width", [960, 1200, 1600])
def test_the_header_is_one_row(reader, width):
    script = (
        "return [...document.querySelectorAll('.bd-header .nav-link, .bd-header .search-button')]"
        ".map((e) => e.getBoundingClientRect()).filter((b) => b.width)"
        ".map((b) => (b.top + b.bottom) / 2)"
    )
    middles = ask(reader, "index", script, width)
    assert len(middles) >= 7
    assert max(middles) - min(middles) < 12


@pytest.mark.parametrize("page", PAGES)
def test_no_code_is_cut(reader, page):
    script = (
        "return [...document.querySelectorAll('.bd-article pre')]"
        ".filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    )
    assert ask(reader, page, script) == []


def test_subscripts_hang_below_the_base_line_all_alike(reader):
    """Empty boxes behind base and subscript tell where their base lines are."""
    script = (
        "const space = 'http://www.w3.org/1998/Math/MathML';"
        "const make = (name) => document.createElementNS(space, name);"
        "const mark = (e) => { const row = make('mrow'), end = make('mspace');"
        "  e.replaceWith(row); row.append(e, end); return end; };"
        "return [...document.querySelectorAll('.formula msub')].map((e) => {"
        "  const [base, low] = [...e.children].map(mark).map((m) => m.getBoundingClientRect());"
        "  return (low.bottom - base.bottom) / parseFloat(getComputedStyle(e).fontSize); })"
    )
    drops = ask(reader, "generated/metrics/ssim", script)
    assert len(drops) > 5
    assert min(drops) > 0.15
    assert max(drops) - min(drops) < 0.05


def test_the_navigation_of_the_reference_has_the_metrics(reader):
    script = "return [...document.querySelectorAll('.bd-sidebar a')].map((e) => e.textContent)"
    names = [name.strip() for name in ask(reader, "api", script)]
    assert set(imsim.METRICS) < set(names)


def test_the_front_page_has_a_picture_and_how_to_install(reader):
    script = (
        "return [document.querySelector('.bd-article pre').textContent,"
        " document.querySelector('.bd-article img').naturalWidth]"
    )
    code, width = ask(reader, "index", script)
    assert code.startswith("pip install")
    assert width > 600
