"""`make docs` builds without a warning, and what it builds loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

from tests.docs.blocks import ROOT

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data", "use": "href"}


class Loaded(HTMLParser):
    """Collects the addresses that a page loads by itself: not those of links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("next", "prev", "index", "search", "canonical", "author", "license"):
            return
        if address := given.get(LOADED.get(tag, "")):
            self.addresses.append(address)


def addresses(page: Path) -> Iterator[str]:
    """What a page or a style sheet loads."""
    text = page.read_text("utf-8")
    if page.suffix == ".html":
        parser = Loaded()
        parser.feed(text)
        yield from parser.addresses
    yield from re.findall(r"@import\s+[\"']([^\"']+)", text)
    yield from re.findall(r"url\(\s*[\"']?([^\"')]+)", text)


def is_elsewhere(address: str) -> bool:
    return re.match(r"(?!data:)([a-z]+:|//)", address) is not None


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built as `make docs` does; but what it built before is not built again."""
    (recipe,) = re.findall(r"^docs:.*\n\t\$\(BIN\)/sphinx-build (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert "-W" in recipe.split()
    command = [sys.executable, "-m", "sphinx", *(word for word in recipe.split() if word != "-E")]
    (ROOT / "build").mkdir(exist_ok=True)
    with FileLock(ROOT / "build" / "docs.lock"):  # tests run in several processes
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ROOT / recipe.split()[-1]


@pytest.mark.slow
def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")} >= pages


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    files = [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]
    loaded = {path: [*addresses(path)] for path in files}
    assert sum(map(len, loaded.values())) > len(files)  # the search finds what pages do load
    assert {path.name: outside for path, all_ in loaded.items() if (outside := [*filter(is_elsewhere, all_)])} == {}


@pytest.mark.slow
def test_the_reference_has_every_public_name(site: Path) -> None:
    import hecompile

    text = (site / "api.html").read_text("utf-8")
    assert [name for name in hecompile.__all__ if f'id="hecompile.{name}"' not in text] == []


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("https://a/b.js", True),
        ("//a/b.css", True),
        ("_static/a.css", False),
        ("data:image/png;base64,x", False),
        ("../a.svg", False),
    ],
)
def test_addresses_elsewhere_are_told(address: str, outside: bool) -> None:
    assert is_elsewhere(address) is outside


def test_the_first_page_links_to_every_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "index.md"]
    assert [name for name in pages if f"({name})" not in text] == []
