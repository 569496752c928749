"""docs/architecture.md is true: its floors, its rooms, its two ways through the code and its figures of the law."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hecompile import compiler
from hecompile.compiler import Compiled, compile_model, pipeline
from hecompile.options import CompileOptions
from hecompile.runtime.loading import load
from tests.layers.figures import static_figures
from tests.layers.floors import drawing, floors, room_of
from tests.layers.imports import modules
from tests.layers.walks import Walk, traced
from tests.networks import Tiny, tiny_inputs

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def section(title: str) -> str:
    """What the document says below a heading."""
    return re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], flags=re.M)[0]


def test_the_document_draws_the_floors() -> None:
    assert f"```text\n{drawing(floors())}\n```" in section("Floors")


def test_the_document_has_a_sentence_for_every_room() -> None:
    named = re.findall(r"^\| `([^`]+)` \| [A-Z].*\. \|$", section("Rooms"), re.M)
    assert named == [room for floor in floors() for room in floor.rooms]


def test_the_documents_figures_of_the_law_are_those_of_the_sources() -> None:
    said = dict(re.findall(r"^\| (.+?) \| [\d,]+ \| ([\d,]+) \|$", section("Before and after"), re.M))
    figures = static_figures(ROOT)
    law = [name for name in figures if name not in ("modules", "lines", "arrows")]  # those change with every commit
    assert {name: said[name] for name in law} == {name: f"{figures[name]:,}" for name in law}


def test_the_way_of_a_request_is_the_one_told(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    with_arguments, story = tiny_inputs(), section("The way of one request")
    model = load(tiny.artifact)
    for _ in range(2):  # a run's first call and a later one
        model(**with_arguments)  # what is made once is made
    with traced(ROOT, "_exchange") as walks:
        model(**with_arguments)
    assert len({tuple(sorted(walk.files)) for walk in walks}) == 1  # whatever the layer
    rows = "\n".join(re.findall(r"^\|.*", story, re.M))
    assert sorted(set(re.findall(r"`(.+?)`", rows))) == sorted(walks[0].files)
    assert f"{len(walks)} requests" in story
    assert f"{len(walks[0].files)} files" in story
    assert f"{len(walks[0].arrows)} pairs" in story


@pytest.mark.slow
def test_the_way_of_a_compilation_is_the_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, told = floors(), re.findall(r"^\| `([\w-]+)` \| `(\S+)` \| (.*) \|$", section("The way of one compilation"), re.M)
    monkeypatch.setattr(compiler.Checker, "check", lambda *arguments: None)  # the way of a pass, not of its verification
    with traced(ROOT) as walks:
        compile_model(Tiny().eval(), tmp_path / "t.he", example_inputs=tiny_inputs(), observer=lambda event: walks.append(Walk()))
    names = {str(path.resolve().relative_to(ROOT)): module for module, path in modules(ROOT).items()}
    assert [name for name, _, _ in told] == [step.name for step in pipeline(CompileOptions(), tmp_path / "other")]
    everywhere = {*table[0].rooms, "compiler", "compiled", "bars", "passes"}
    for (_, file, rooms), walk in list(zip(told, walks, strict=False))[1:]:  # what comes before the first pass is told in words
        assert file in walk.files
        assert set(re.findall(r"`(.+?)`", rooms)) == {room_of(names[name], table) for name in walk.files} - everywhere, file
