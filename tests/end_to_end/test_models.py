"""Models of diffusers of every kind, from a class alone to a loaded model that gives what the float module gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as trees

import hecompile
from hecompile.artifact import read_manifest
from hecompile.compiler import compile_model
from hecompile.errors import CompileError
from hecompile.frontend.examples import example_arguments, known_models
from hecompile.options import CompileOptions
from tests.end_to_end.models_table import DOCUMENT, WHY_NOT, Figures, check_row, names_of_rows, row
from tests.frontend.models import MODELS, adapted
from tests.works import works

LEAST_DB = 40.0  # int8 weights give 45 to 60 for networks of this depth
QUICK = ("AutoencoderKL encoder",)
CHEAP = ("AutoencoderKL encoder", "SanaTransformer2DModel")
ROWS = [
    pytest.param(name, marks=[works("modules", f"`{name}`", LEAST_DB), *([] if name in QUICK else [pytest.mark.slow])])
    for name in MODELS
]


def tensors(results: object) -> list[torch.Tensor]:
    return [leaf for leaf in trees.tree_leaves(results) if isinstance(leaf, torch.Tensor)]


def psnr(result: torch.Tensor, expected: torch.Tensor) -> float:
    """In dB, of the largest entry."""
    return float(20 * torch.log10(expected.abs().max()) - 10 * torch.log10((result - expected).square().mean()))


def worst_psnr(compiled: torch.nn.Module, module: torch.nn.Module, arguments: dict[str, Any]) -> float:
    """Of all outputs, which come in the same structure and shapes."""
    with torch.no_grad():
        expected, results = module(**arguments), compiled(**arguments)
    assert trees.tree_structure(results) == trees.tree_structure(expected)
    assert [result.shape for result in tensors(results)] == [value.shape for value in tensors(expected)]
    return min(psnr(*pair) for pair in zip(tensors(results), tensors(expected), strict=True))


def of_one(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same call for the first element of the batch alone."""
    return trees.tree_map(
        lambda leaf: leaf[:1] if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == 2 else leaf, arguments
    )


def compiled(name: str, folder: Path, backend: str = "clear") -> tuple[torch.nn.Module, torch.nn.Module]:
    """A model and what is loaded of it, compiled without example inputs."""
    module, options = MODELS[name].build(), CompileOptions(backend=backend, max_batch=2)
    compile_model(module, folder, options=options, size=MODELS[name].size, tokens=MODELS[name].tokens)
    return module, hecompile.load(folder, policy="simulation" if backend == "clear" else "strict")


@pytest.mark.parametrize("name", ROWS)
def test_a_model_gives_what_its_float_module_gives(name: str, tmp_path: Path) -> None:
    if name in WHY_NOT:
        with pytest.raises(CompileError):
            compiled(name, tmp_path / "model")
        check_row(name, row(name, None))
        return
    module, loaded = compiled(name, tmp_path / "model")
    arguments = MODELS[name].arguments(module)
    worst_db = worst_psnr(loaded, module, arguments)
    assert worst_db >= LEAST_DB
    assert worst_psnr(loaded, module, of_one(arguments)) >= LEAST_DB
    with torch.no_grad():
        outputs = len(tensors(module(**arguments)))
    check_row(name, row(name, Figures(outputs, worst_db, read_manifest(tmp_path / "model").plan.rounds)))


@pytest.mark.fhe
@pytest.mark.parametrize("name", CHEAP)
def test_a_model_is_the_same_encrypted(name: str, tmp_path: Path) -> None:
    module, encrypted = compiled(name, tmp_path / "bfv", "bfv")
    _, simulated = compiled(name, tmp_path / "clear")
    arguments = MODELS[name].arguments(module)
    for first, second in zip(tensors(encrypted(**arguments)), tensors(simulated(**arguments)), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_unet_with_two_ip_adapters(tmp_path: Path) -> None:
    module = adapted("two pictures")
    compile_model(module, tmp_path / "model", options=CompileOptions(backend="clear", max_batch=2), tokens=7)
    loaded = hecompile.load(tmp_path / "model", policy="simulation")
    assert worst_psnr(loaded, module, example_arguments(module, tokens=7) or {}) >= LEAST_DB


def test_the_document_has_a_row_for_every_model() -> None:
    assert names_of_rows() == list(MODELS)


def test_the_document_names_every_model_whose_call_is_known() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in known_models() if name not in text] == []
