"""Graphs that leak do not compile, and clients refuse what is weaker than they insist on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hecompile
from hecompile.artifact_files import digest
from hecompile.artifact_writing import to_json
from hecompile.compiler import compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.graph import ModelGraph, info
from hecompile.options import CompileOptions
from hecompile.passes.check_secrecy import CheckSecrecy
from hecompile.policies import policy
from tests import stages

CHECK = CheckSecrecy(policy("strict"))


@pytest.fixture(scope="module")
def partitioned() -> ModelGraph:
    return stages.partitioned(CompileOptions())


def retag(graph: ModelGraph, name: str, **changes: Any) -> ModelGraph:
    return graph.with_infos(lambda node, record: replace(record, **changes) if node.name == name else record)


def test_the_partition_itself_passes(partitioned: ModelGraph) -> None:
    assert CHECK.run(partitioned) is partitioned


@pytest.mark.promise("ciphertexts-only")
def test_eps_sent_in_clear_is_refused(partitioned: ModelGraph) -> None:
    """The output, or anything made of it, on the server in the clear."""
    leaking = retag(partitioned, partitioned.outputs[0], domain="server_clear")
    with pytest.raises(CompileError, match="would reach the server in the clear"):
        CHECK.run(leaking)


@pytest.mark.promise("ciphertexts-only")
@pytest.mark.parametrize("kind", ["silu", "add", "group_norm"])
def test_every_secret_node_is_refused_in_clear(partitioned: ModelGraph, kind: str) -> None:
    node = next(node for node in partitioned.nodes if kind in str(node.target) and info(node).secret)
    with pytest.raises(CompileError, match=node.name):
        CHECK.run(retag(partitioned, node.name, domain="server_clear"))


@pytest.mark.promise("ciphertexts-only")
def test_a_secret_marked_public_is_found(partitioned: ModelGraph) -> None:
    node = next(node for node in partitioned.nodes if "silu" in str(node.target))
    with pytest.raises(CompileError, match="derives from a secret"):
        CHECK.run(retag(partitioned, node.name, secret=False))


def test_an_unknown_domain_is_refused(partitioned: ModelGraph) -> None:
    with pytest.raises(CompileError, match="unknown domain"):
        CHECK.run(retag(partitioned, partitioned.outputs[0], domain="elsewhere"))


def test_all_leaks_are_reported_at_once(partitioned: ModelGraph) -> None:
    leaking = partitioned.with_infos(lambda node, record: replace(record, domain="server_clear") if record.secret else record)
    with pytest.raises(CompileError) as caught:
        CHECK.run(leaking)
    assert len(caught.value.diagnostics) > 5


def test_strict_never_goes_with_a_backend_that_does_not_encrypt(partitioned: ModelGraph) -> None:
    clear = partitioned.with_infos(lambda node, record: replace(record, backend=record.backend and "clear"))
    with pytest.raises(CompileError, match="does not encrypt"):
        CHECK.run(clear)
    with pytest.raises(CompileError, match="does not encrypt"):
        CompileOptions(policy="strict", backend="clear")


def rewrite(artifact: Path, **changes: Any) -> None:
    """Change the manifest as a malicious compiler would: checksums right."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest.update(changes)
    (artifact / "manifest.json").write_bytes(to_json(manifest))


def test_an_unchanged_artifact_loads(artifact: Path) -> None:
    hecompile.load(artifact)


@pytest.mark.promise("own-terms")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": "simulation"}, "insists on 'strict'"),
        ({"policy": "nothing"}, "insists on 'strict'"),
        ({"encrypted": False}, "simulation"),
        ({"backend": "clear"}, "wrong about whether"),
        ({"security_bits": 80}, "insists on 128"),
        ({"reveals": ["sample"]}, "reveals sample"),
        ({"format": 1}, "format 1"),
        ({"backend": "nothing"}, "no backend"),
    ],
)
def test_a_client_refuses_weaker_artifacts(artifact: Path, changes: dict[str, Any], reason: str) -> None:
    rewrite(artifact, **changes)
    with pytest.raises(ProtocolError, match=reason):
        hecompile.load(artifact)


@pytest.mark.promise("own-terms", "128-bits")
def test_a_client_refuses_parameters_below_its_own_table(artifact: Path) -> None:
    """A seed for a million requests: as many secrets, of which the weakest is enough."""
    region = next(path for path in sorted((artifact / "client").glob("call_*.json")))
    program = json.loads(region.read_text())
    program["layers"][0]["requests"] = 1 << 20
    region.write_bytes(to_json(program))
    manifest = json.loads((artifact / "manifest.json").read_text())
    rewrite(artifact, files=manifest["files"] | {f"client/{region.name}": digest(region.read_bytes())})
    with pytest.raises(ProtocolError, match="less than 128 bits"):
        hecompile.load(artifact)


@pytest.mark.promise("own-terms")
@pytest.mark.parametrize(("name", "reason"), [("clear", "does not encrypt"), ("nothing", "no backend")])
def test_a_client_refuses_a_region_of_a_weaker_backend(artifact: Path, name: str, reason: str) -> None:
    region = next(path for path in sorted((artifact / "client").glob("call_*.json")))
    program = json.loads(region.read_text())
    region.write_bytes(to_json(program | {"backend": name}))
    manifest = json.loads((artifact / "manifest.json").read_text())
    rewrite(artifact, files=manifest["files"] | {f"client/{region.name}": digest(region.read_bytes())})
    with pytest.raises(ProtocolError, match=reason):
        hecompile.load(artifact)


@pytest.mark.promise("own-terms")
def test_a_simulation_needs_to_be_asked_for(tiny_clear: hecompile.Compiled) -> None:
    assert tiny_clear.artifact is not None
    with pytest.raises(ProtocolError, match="simulation"):
        hecompile.load(tiny_clear.artifact)
    hecompile.load(tiny_clear.artifact, policy="simulation")


def test_weights_cannot_be_protected_and_the_reason_is_said() -> None:
    with pytest.raises(CompileError, match="circuit-private"):
        CompileOptions(protect_weights=True)


@pytest.mark.promise("128-bits")
def test_security_levels_without_a_table_are_refused() -> None:
    with pytest.raises(CompileError, match="no parameter table"):
        compile_model("digits", None, options=CompileOptions(security=192))
