"""Artifacts damaged at random: a client loads them or says `ProtocolError`, and takes little memory for either.

`make fuzz` does this for ten minutes, the tests for seconds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hecompile.artifact import read_manifest
from hecompile.artifact_server import read_server
from hecompile.artifact_writing import to_json
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.check_onnx import check_onnx
from hecompile.runtime.greeting import parse_greeting
from hecompile.runtime.local_region import LocalRegion
from tests.attacks.hostile import put
from tests.fuzz.budget import BRIEFLY_AND_LONGER, bounded_memory, damaged_for_a_while
from tests.fuzz.damage import damaged_bytes, damaged_onnx, damaged_text


def refused(task: Callable[[], object]) -> bool:
    """Whether a task ends in `ProtocolError`. Any other error is one."""
    try:
        task()
    except ProtocolError:
        return True
    return False


@pytest.fixture
def artifact(tmp_path: Path, tiny: Compiled) -> Path:
    assert tiny.artifact is not None
    return Path(shutil.copytree(tiny.artifact, tmp_path / "artifact"))


@pytest.mark.promise("documents")
@BRIEFLY_AND_LONGER
def test_manifests(artifact: Path, seconds: float) -> None:
    document = json.loads((artifact / "manifest.json").read_text())

    def example(random: Random) -> None:
        (artifact / "manifest.json").write_bytes(damaged_text(document, random))
        refused(lambda: load_bundle(artifact))

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


@pytest.mark.promise("documents")
@BRIEFLY_AND_LONGER
def test_manifests_of_servers(artifact: Path, seconds: float) -> None:
    document = json.loads((artifact / "server/manifest.json").read_text())

    def example(random: Random) -> None:
        (artifact / "server/manifest.json").write_bytes(damaged_text(document, random))
        refused(lambda: read_server(artifact))

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


@pytest.mark.promise("documents")
@BRIEFLY_AND_LONGER
def test_programs_within_an_artifact(artifact: Path, seconds: float) -> None:
    """Each document of `Tiny` under a right checksum."""
    names = sorted(path.name for path in (artifact / "client").glob("*.json"))
    documents = {name: json.loads((artifact / "client" / name).read_text()) for name in names}

    def example(random: Random) -> None:
        name = random.choice(names)
        put(artifact, f"client/{name}", damaged_text(documents[name], random))
        refused(lambda: load_bundle(artifact))
        put(artifact, f"client/{name}", to_json(documents[name]))

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0
    load_bundle(artifact)


@pytest.mark.promise("documents")
@BRIEFLY_AND_LONGER
def test_headers_of_tensors(artifact: Path, seconds: float) -> None:
    name = "client/call_01.safetensors"
    data = (artifact / name).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])

    def example(random: Random) -> None:
        text = damaged_text(header, random)
        length = random.choice([len(text), len(text), len(text), 0, 1, len(text) + 1, 1 << 40, (1 << 64) - 1])
        changed = length.to_bytes(8, "little") + text + data[8 + size :]
        put(artifact, name, changed if random.random() < 0.8 else damaged_bytes(data, random))
        refused(lambda: load_bundle(artifact))

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


@pytest.mark.promise("graphs")
@pytest.mark.parametrize("damage", [damaged_bytes, damaged_onnx])
@BRIEFLY_AND_LONGER
def test_client_regions(digits_clear: Path, damage: Callable[[bytes, Random], bytes], seconds: float) -> None:
    """What is judged to be in order, ONNX Runtime takes or refuses in words."""
    regions = [path.read_bytes() for path in sorted((digits_clear / "client").glob("*.onnx"))]

    def example(random: Random) -> None:
        def load() -> None:
            graph = check_onnx(damage(random.choice(regions), random), "client_00", 3)
            LocalRegion(graph.data, "client_00", 1)

        refused(load)

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


@pytest.mark.promise("replies")
@BRIEFLY_AND_LONGER
def test_greetings(seconds: float) -> None:
    document = {"artifact": "0" * 64, "name": "digits", "version": "0.1.0", "wire": 3, "encrypted": True}

    def example(random: Random) -> None:
        refused(lambda: parse_greeting(damaged_text(document, random), "the server"))

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


def test_an_undamaged_artifact_is_taken(artifact: Path) -> None:
    assert not refused(lambda: load_bundle(artifact))
    assert refused(lambda: read_manifest(artifact / "client"))
