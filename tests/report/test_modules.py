"""The modules that an artifact keeps: written in the order of the plan, and judged like everything else that is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hecompile.artifact import read_manifest
from hecompile.artifact_files import file_digest
from hecompile.artifact_modules import MODULES, read_modules
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.modules import printable_path
from hecompile.report.tables import region_rows
from hecompile.report.tree import module_tree
from tests.programs import program_of


def test_an_artifact_keeps_what_the_program_knew(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    manifest = read_manifest(tiny.artifact)
    modules = read_modules(tiny.artifact, manifest.files)
    assert modules == program_of(tiny).modules
    assert modules
    order = [step.region for step in manifest.plan.steps]
    assert [order.index(work.region) for work in modules] == sorted(order.index(work.region) for work in modules)


def test_multiply_adds_are_those_of_the_model(tiny: Compiled) -> None:
    linear = sum(work.macs for work in program_of(tiny).modules if work.layers)
    assert linear == pytest.approx(program_of(tiny).gmac * 1e9)


def test_an_artifact_without_the_file_has_none(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    files = {name: digest for name, digest in read_manifest(tiny.artifact).files.items() if name != MODULES}
    assert read_modules(tiny.artifact, files) == ()


def test_a_changed_file_is_refused(tiny: Compiled, tmp_path: Path) -> None:
    assert tiny.artifact is not None
    folder = tmp_path / "a"
    shutil.copytree(tiny.artifact, folder)
    (folder / MODULES).write_text((folder / MODULES).read_text() + " ")
    with pytest.raises(ProtocolError, match="changed since it was compiled"):
        read_modules(folder, read_manifest(folder).files)


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        _set("path", "a" * 401), _set("path", "up\x1b[2J"), _set("path", "a\u202eb"), _set("path", "a\u200bb"),
        _set("layers", 1 << 53), _set("path", 7), _set("region", "a/b"),
        _set("macs", -1), _set("macs", 1 << 60), _set("entries", 0.5), _set("layers", True), _set("shape", ["B", 0]),
        _set("shape", [1] * 9), _set("shape", ["C"]), _set("operations", ["<b>"]), _set("operations", ["a"] * 101),
        _set("more", 1), lambda record: record.pop("path"),
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(tiny: Compiled, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    assert tiny.artifact is not None
    document = json.loads((tiny.artifact / MODULES).read_text())
    change(document["modules"][0])
    (tmp_path / MODULES).write_text(json.dumps(document))
    with pytest.raises(ProtocolError, match="modules"):
        read_modules(tmp_path, {MODULES: file_digest(tmp_path / MODULES)})


def test_more_names_than_a_network_has_are_refused(tiny: Compiled, tmp_path: Path) -> None:
    assert tiny.artifact is not None
    record = json.loads((tiny.artifact / MODULES).read_text())["modules"][0] | {"path": ".".join("a" * 190)}
    (tmp_path / MODULES).write_text(json.dumps({"modules": [record] * 1500}))
    with pytest.raises(ProtocolError, match="more layers or names"):
        read_modules(tmp_path, {MODULES: file_digest(tmp_path / MODULES)})


def test_modules_of_a_region_that_is_not_in_the_plan_are_refused(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    stranger = replace(program_of(tiny).modules[0], region="elsewhere")
    with pytest.raises(ProtocolError, match="a region that the plan does not have"):
        region_rows(tiny.artifact, read_manifest(tiny.artifact), [stranger])


@pytest.mark.parametrize("claims", [{"reveals": ("x",)}, {"encrypted": False}])
def test_a_manifest_that_its_halves_contradict_is_not_reported(tiny: Compiled, claims: dict[str, Any]) -> None:
    assert tiny.artifact is not None
    with pytest.raises(ProtocolError, match="manifest says"):
        region_rows(tiny.artifact, replace(read_manifest(tiny.artifact), **claims))


def test_names_with_slashes_are_boxes_of_their_own(tiny: Compiled) -> None:
    works = [replace(program_of(tiny).modules[0], path=path) for path in ("a/b", "a.b")]
    identifiers = [own for own, _, _ in module_tree("net", works, ()).walk()]
    assert len(set(identifiers)) == len(identifiers) == 4


@pytest.mark.parametrize("document", [[], {}, {"modules": {}}, {"modules": [], "more": 1}, {"modules": [1]}])
def test_a_document_that_is_none_is_refused(tmp_path: Path, document: object) -> None:
    (tmp_path / MODULES).write_text(json.dumps(document))
    with pytest.raises(ProtocolError, match="modules"):
        read_modules(tmp_path, {MODULES: file_digest(tmp_path / MODULES)})


def test_any_path_of_a_network_can_be_kept(tiny: Compiled) -> None:
    work = replace(program_of(tiny).modules[0], path=printable_path("a\nb\x07" + "c" * 500))
    assert work.path == "a?b?" + "c" * 396
