"""A headless Chromium that reaches nothing but this machine, and the pictures of pages that the documents show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
UPDATE = "HECOMPILE_UPDATE_IMAGES"
DESKTOP, PHONE = (1280, 900), (390, 844)  # CSS pixels

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no Chromium here: `make browser` installs Debian's package where it may"
)


@contextmanager
def opened_page(size: tuple[int, int] = DESKTOP) -> Iterator[tuple[Page, list[str]]]:
    """A page in a new browser, and what went wrong on it: errors of scripts, and requests that left this machine, which fail."""
    faults: list[str] = []

    def inside(route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("file", "data", "blob") or address.hostname in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            faults.append(f"request to {route.request.url}")
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            width, height = size
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
            page.on("pageerror", lambda error: faults.append(f"script: {error}"))
            page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type == "error" else None)
            page.route("**/*", inside)
            yield page, faults
        finally:
            browser.close()


def photograph(page: Page, name: str, tmp_path: Path, whole: bool = False) -> Path:
    """A picture of the page (PNG): in docs/images/ where HECOMPILE_UPDATE_IMAGES is set, else in `tmp_path`."""
    path = (IMAGES if os.environ.get(UPDATE) else tmp_path) / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    page.screenshot(path=path, full_page=whole)
    return path
