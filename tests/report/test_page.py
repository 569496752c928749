"""The page of a report: it is whole, it fetches nothing, nothing gets out of its place, and its numbers are the artifact's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hecompile.artifact import read_manifest
from hecompile.compiler import Compiled
from hecompile.report.artifact import artifact_page
from hecompile.report.inspection import inspection
from hecompile.report.page import page
from tests.report.pages import HOSTILE, LINK, figures_of, gathered, hostile
from tests.test_cli import last_json, run


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}  # of scripts, by their number among all elements
        self.script = 0  # the number of the one that is open
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        self.script = len(self.opened) if tag == "script" else 0

    def handle_endtag(self, tag: str) -> None:
        self.script = 0

    def handle_data(self, data: str) -> None:
        if self.script:
            self.texts[self.script] = self.texts.get(self.script, "") + data

    @property
    def scripts(self) -> list[tuple[dict[str, str | None], str]]:
        """The attributes of every script, and its text."""
        return [(self.opened[place - 1][1], text) for place, text in self.texts.items()]


@pytest.fixture(scope="module")
def text(digits: Path) -> str:
    return page(gathered(digits))


def digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def test_nothing_in_the_page_comes_from_elsewhere(text: str) -> None:
    for tag, attributes in Elements(text).opened:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, name, value)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_of_the_page_allows_its_own_scripts_and_no_other(text: str) -> None:
    elements = Elements(text)
    (policy,) = (attributes["content"] for tag, attributes in elements.opened if attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    (allowed,) = re.findall(r"script-src ([^;]*);", policy)
    (own,) = (script for attributes, script in elements.scripts if "type" not in attributes)
    (packed,) = (script for attributes, script in elements.scripts if attributes.get("id") == "plotly")
    library = gzip.decompress(base64.b64decode(packed)).decode()
    assert allowed.split() == [digest(own), digest(library)]


def test_the_library_of_charts_is_packed_and_only_where_charts_are(text: str, tiny: Compiled) -> None:
    assert len(text) < 2_300_000
    assert tiny.artifact is not None
    bare = replace(gathered(tiny.artifact), modules=(), rows=(), timeline=None)
    bare = replace(bare, manifest=replace(bare.manifest, plan=replace(bare.manifest.plan, steps=(), outputs=())))
    without = page(bare)
    assert 'id="plotly"' not in without
    assert len(without) < 40_000


def test_no_text_of_an_artifact_becomes_a_part_of_the_page(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    plain, attacked = (Elements(page(contents(tiny.artifact))) for contents in (gathered, hostile))
    assert sum(tag == "script" for tag, _ in attacked.opened) == sum(tag == "script" for tag, _ in plain.opened) == 3
    for tag, attributes in attacked.opened:
        assert tag != "a" or str(attributes["href"]).startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "img" or str(attributes["src"]).startswith("data:image/png;base64,")


def test_no_text_of_an_artifact_becomes_a_link_in_a_chart(tiny: Compiled) -> None:
    """Labels of plotly are a kind of HTML of their own."""
    assert tiny.artifact is not None
    shown = json.dumps(figures_of(page(hostile(tiny.artifact))))
    assert "<a " not in shown
    assert "<img" not in shown
    assert "&lt;a href" in shown


def test_what_is_not_a_template_is_not_run_as_one(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    text = page(hostile(tiny.artifact))
    assert "{{7*7}}" in text
    assert HOSTILE not in text
    assert LINK not in text


def test_numbers_are_those_of_inspect(digits: Path, text: str) -> None:
    inspected = inspection(digits, read_manifest(digits))
    bars = {trace["name"]: sum(trace["x"]) for trace in figures_of(text)["bytes"]["data"]}
    assert bars["up"] * 1e3 == pytest.approx(inspected["bytes_up_per_step"])
    assert bars["down"] * 1e3 == pytest.approx(inspected["bytes_down_per_step"])
    assert f"A server computes {inspected['encrypted_layers']} layers of digits, and sees ciphertexts only" in text
    assert f"{inspected['rounds_per_step']} requests in a row" in text
    weakest = min(row["classical_bits"] for row in inspected["regions"] if row["classical_bits"])  # type: ignore[attr-defined]
    assert f"takes some 2^{weakest:.0f} steps" in text


def test_every_layer_is_named_by_its_module(digits: Path) -> None:
    contents = gathered(digits)
    labels = [row.label for row in contents.calls]
    assert "down_blocks.0.resnets.0.conv1" in labels
    assert labels[-1] == "conv_out"
    regions = {row.region for row in contents.calls}
    layers = sum(work.layers for work in contents.modules if work.region in regions)
    assert layers == sum(row.layers for row in contents.calls)
    assert "down_blocks.0.resnets.0.conv1" in run("inspect", str(digits)).stdout


def test_an_artifacts_own_report_is_the_same_every_time(digits: Path) -> None:
    manifest = read_manifest(digits)
    first, second = (artifact_page(digits, manifest) for _ in range(2))
    assert first == second
    assert "<dt>machine</dt>" not in first


def test_an_artifact_without_names_of_modules_has_a_report(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    contents = gathered(tiny.artifact)
    text = page(replace(contents, modules=(), rows=[replace(row, modules=()) for row in contents.rows]))
    assert "This artifact keeps no names of modules" in text
    assert "map" not in figures_of(text)


def test_inspect_writes_the_report(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert last_json(run("inspect", str(digits), "--html", str(path), "--json")) == {"output": str(path)}
    text = path.read_text()
    assert "<dt>machine</dt>" in text
    assert f"hecompile inspect {digits} --html {path}" in text
    assert 'Who pays what <span class="tag">the first step of a run, predicted' in text


def test_a_report_that_cannot_be_written_is_refused_before_the_work(digits: Path, tmp_path: Path) -> None:
    ended = run("inspect", str(digits), "--measured", "--html", str(tmp_path))
    assert ended.returncode == 2
    assert str(tmp_path) in ended.stderr


@pytest.mark.fhe
def test_inspect_measures_and_writes_the_report(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert last_json(run("inspect", str(digits), "--measured", "--html", str(path), "--json")) == {"output": str(path)}
    text = path.read_text()
    assert "the first step of a run, measured" in text
    assert "<td>client, CPU with HTTP</td>" in text
    names = [trace["name"] for trace in figures_of(text)["timeline"]["data"]]
    assert names == ["the client's own layers", "encrypt", "decrypt", "the server computes"]
