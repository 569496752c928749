"""The documents of regions, byte by byte as artifacts of this format hold them: a changed document needs another format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hecompile.artifact_writing import to_json
from hecompile.compiler import Compiled, compile_model
from hecompile.ir.halves import Half
from hecompile.options import CompileOptions
from hecompile.sampler_artifact import SamplerOptions, compile_sampler
from tests.backends.ckks.network import compiled
from tests.backends.concrete.test_lookups import EXAMPLE as LOOKUPS_EXAMPLE
from tests.backends.concrete.test_lookups import ConvSiluConv
from tests.backends.concrete.test_stacks import EXAMPLE as TIMED_EXAMPLE
from tests.backends.concrete.test_stacks import Timed
from tests.fuzz.halves import concrete_half, lookup_half, stack_half
from tests.golden_files import check
from tests.sampling import calls

pytestmark = pytest.mark.promise("documents")


def documents(artifact: Path | None) -> str:
    """Those of an artifact without lines of the model's code, in order of the regions' names; client and server hold the same."""
    assert artifact is not None
    files = sorted((artifact / "client").glob("*.json"))
    assert files
    for file in files:
        assert file.read_bytes() == (artifact / "server" / file.name).read_bytes()
    return re.sub(r'("source": "\w+\.py):\d+"', r'\1"', "".join(f"{file.name}\n{file.read_text()}" for file in files))


def rounded(text: str) -> str:
    """With four digits of every float: the last ones depend on the machine that calibrated."""
    return re.sub(r"\d+\.\d+(e[+-]?\d+)?", lambda match: f"{float(match[0]):.4g}", text)


def test_layers_under_bfv(tiny: Compiled) -> None:
    check("documents/bfv", documents(tiny.artifact))


def test_layers_under_clear(tiny_clear: Compiled) -> None:
    check("documents/clear", documents(tiny_clear.artifact))


def test_sampler_steps(tmp_path: Path) -> None:
    compile_sampler(tmp_path / "dynamic", (1, 8, 8), options=SamplerOptions(dynamic=True))
    check("documents/sampler step with dynamic masks", documents(tmp_path / "dynamic"))
    compile_sampler(tmp_path / "static", (1, 8, 8), calls((1, 8, 8)), SamplerOptions(tau=0.05, fill=False))
    check("documents/sampler step with static masks", documents(tmp_path / "static"))


@pytest.mark.parametrize("half", [concrete_half, stack_half, lookup_half])
def test_circuits_of_concrete(half: Callable[[], Half]) -> None:
    """Written by hand: no circuit is compiled."""
    document = half().program
    check(f"documents/{document['backend']} by hand", to_json(document).decode())


@pytest.mark.fhe
def test_layers_under_concrete(tiny_concrete: Compiled) -> None:
    check("documents/concrete", rounded(documents(tiny_concrete.artifact)))


@pytest.mark.fhe
def test_stacks_under_concrete(tmp_path: Path) -> None:
    options = CompileOptions(backend="concrete_stacks", max_batch=2)
    compile_model(Timed().eval(), tmp_path / "stacks", options=options, example_inputs=TIMED_EXAMPLE)
    check("documents/concrete_stacks", rounded(documents(tmp_path / "stacks")))


@pytest.mark.fhe
@pytest.mark.slow
def test_lookups_under_concrete(tmp_path: Path) -> None:
    options = CompileOptions(backend="concrete_lookups", max_batch=2)
    compile_model(ConvSiluConv().eval(), tmp_path / "lookups", options=options, example_inputs=LOOKUPS_EXAMPLE)
    check("documents/concrete_lookups", rounded(documents(tmp_path / "lookups")))


@pytest.mark.fhe
@pytest.mark.parametrize("backend", ["ckks", "ckks_clear"])
def test_slot_programs(backend: str) -> None:
    model, _ = compiled(backend)
    check(f"documents/{backend}", rounded(documents(model.artifact)))
