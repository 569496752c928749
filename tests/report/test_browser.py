"""The report of the demo in a browser: drawn whole without anything from outside, on a desk, on a phone, at night and on paper."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from hecompile.compiler import Compiled
from hecompile.report.page import page
from tests.artifacts import ROOT
from tests.browser import DESKTOP, PHONE, needs_chromium, opened_page, photograph
from tests.report.pages import gathered, hostile

pytestmark = [pytest.mark.slow, needs_chromium]
CHARTS = ("map", "timeline", "bytes", "seconds")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` writes."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")], cwd=folder, env=environment, check=True, capture_output=True
    )
    return folder / "out" / "report.html"


@contextmanager
def drawn(report: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Page]:
    """The report in a browser, when its charts are there. No script failed and nothing was asked for, also until the end."""
    with opened_page(size) as (browser, faults):
        browser.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        browser.goto(report.as_uri())
        browser.wait_for_selector("html[data-drawn]", timeout=60_000)
        yield browser
        assert not faults


def until(browser: Page, condition: str) -> None:
    """Wait for a condition in the page, whose policy lets nobody else evaluate texts there."""
    deadline = time.monotonic() + 30
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, condition
        browser.wait_for_timeout(50)


@pytest.mark.parametrize(("size", "name"), [(DESKTOP, "report-desktop"), (PHONE, "report-phone")])
def test_charts_are_drawn_and_nothing_scrolls_sideways(report: Path, tmp_path: Path, size: tuple[int, int], name: str) -> None:
    with drawn(report, size) as browser:
        for chart in CHARTS:
            assert browser.locator(f"[data-chart={chart}] svg.main-svg").count() >= 1, chart
        assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
        browser.locator("summary").first.click()
        expect(browser.locator("#plan li").first).to_be_visible()
        assert browser.evaluate("document.documentElement.scrollWidth") == size[0]
        browser.locator("summary").first.click()
        browser.evaluate("scrollTo(0, 0)")
        assert photograph(browser, name, tmp_path).stat().st_size > 20_000


def test_the_first_screen_tells_what_was_seen_what_it_cost_and_how_safe_it_is(report: Path) -> None:
    with drawn(report) as browser:
        for text in ("What the server saw.", "Client, CPU", "Server, CPU", "Network", "bits of security"):
            box = browser.get_by_text(text).first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] < DESKTOP[1], text
        for picture in browser.locator("figure img").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
            assert (picture.bounding_box() or {"y": 9999.0})["y"] < DESKTOP[1]


def test_a_click_on_a_box_shows_it_alone_and_its_name_leads_back(report: Path) -> None:
    with drawn(report) as browser:
        boxes = browser.locator("[data-chart=map] g.slice")
        before = boxes.count()
        boxes.filter(has_text="up_blocks.1").first.click()
        expect(browser.locator("[data-chart=map] g.pathbar")).not_to_have_count(0)
        until(browser, f"document.querySelectorAll('[data-chart=map] g.slice').length < {before}")
        browser.locator("[data-chart=map] g.pathbar").first.click()
        until(browser, f"document.querySelectorAll('[data-chart=map] g.slice').length == {before}")


def test_boxes_can_be_sized_by_multiply_adds(report: Path) -> None:
    height = (
        "[...document.querySelectorAll('[data-chart=map] g.slice')].find(box => box.textContent === 'up_blocks.1').getBBox().height"
    )
    with drawn(report) as browser:
        before = browser.evaluate(height)
        browser.get_by_role("button", name="multiply-adds").click()
        until(browser, f"Math.abs({height} - {before}) > 5")
        assert browser.get_by_role("button", name="multiply-adds").get_attribute("aria-pressed") == "true"
        assert browser.get_by_role("button", name="values computed").get_attribute("aria-pressed") == "false"


def test_the_timeline_can_be_enlarged(report: Path) -> None:
    span = "(() => { const [from, to] = document.querySelector('[data-chart=timeline]').layout.xaxis.range; return to - from; })()"
    with drawn(report) as browser:
        plot, before = browser.locator("[data-chart=timeline] .nsewdrag").first, browser.evaluate(span)
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert box is not None
        browser.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
        browser.mouse.down()
        browser.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=5)
        browser.mouse.up()
        until(browser, f"{span} < {before} * 0.5")


def test_it_is_dark_at_night(report: Path) -> None:
    lightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
    )
    ink = "getComputedStyle(document.querySelector('[data-chart=timeline] .xtick text')).fill"
    with drawn(report) as day:
        bright, dark_ink = day.evaluate(lightness), day.evaluate(ink)
    with drawn(report, scheme="dark") as night:
        assert night.evaluate(lightness) < bright / 3
        assert night.evaluate(ink) != dark_ink


def test_on_paper_all_is_open_and_nothing_is_cut(report: Path, tmp_path: Path) -> None:
    with drawn(report) as browser:
        browser.evaluate(
            "addEventListener('beforeprint', () => { window.shut = document.querySelectorAll('details:not([open])').length; })"
        )
        browser.pdf(path=tmp_path / "report.pdf", format="A4", prefer_css_page_size=False)
        assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-"
        assert browser.evaluate("window.shut") == 0
        browser.emulate_media(media="print")
        browser.set_viewport_size({"width": 700, "height": 1000})
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        browser.wait_for_timeout(500)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 700
        for chart in CHARTS:
            box = browser.locator(f"[data-chart={chart}] svg.main-svg").first.bounding_box()
            assert box is not None
            assert box["width"] <= 700
            cut = browser.locator(f"[data-chart={chart}]").evaluate(
                "box => box.parentElement.scrollHeight - box.parentElement.clientHeight"
            )
            assert cut <= 1, chart


def test_a_browser_that_cannot_unpack_says_so(report: Path) -> None:
    with opened_page() as (browser, faults):
        browser.add_init_script("delete window.DecompressionStream")
        browser.goto(report.as_uri())
        expect(browser.locator("[data-chart=map]")).to_contain_text("This browser cannot unpack the charts")
        assert not faults


def test_a_hostile_artifact_runs_nothing_and_links_nowhere(tiny: Compiled, tmp_path: Path) -> None:
    assert tiny.artifact is not None
    for name, contents in (("plain", gathered(tiny.artifact)), ("hostile", hostile(tiny.artifact))):
        (tmp_path / f"{name}.html").write_text(page(contents))
        with drawn(tmp_path / f"{name}.html") as browser:
            assert browser.evaluate("window.taken === undefined")
            links = browser.evaluate(
                "[...document.querySelectorAll('a')].map(link => link.getAttribute('href') || link.getAttribute('xlink:href'))"
            )
            assert all(link.startswith("#") for link in links)
