"""Files of both exporters of torch compute what the model computes, at every batch size."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Any

import pytest
import torch

from hecompile.frontend.onnx import import_onnx
from hecompile.frontend.sources import Source, load_source
from hecompile.ir.signature import PUBLIC
from hecompile.ir.verify import verify_graph
from hecompile.passes.canonicalize import Canonicalize
from tests.artifacts import shared
from tests.frontend.architectures import ARCHITECTURES, build
from tests.frontend.handwritten import Attention, HandwrittenUNet, handwritten_inputs

TOLERANCE = 1e-5  # of the largest entry: float32 sums in another order through some forty layers
REFUSED = ("katherine", "katherine cross attention")  # by the exporter: "convolution for kernel of unknown shape"
QUICK = (("attention", 14),)
LEGACY = [
    pytest.param(name, opset, marks=[] if (name, opset) in QUICK else [pytest.mark.slow])
    for name in ARCHITECTURES
    for opset in (14, 17)
    if name not in REFUSED
]
EXPORTERS = [
    pytest.param(14, False, marks=pytest.mark.slow),
    pytest.param(17, False),
    pytest.param(18, True, marks=pytest.mark.slow),
]


class Flat(torch.nn.Module):
    """A model called with its tensors one after the other, which gives one tensor."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        assert source.module is not None
        self.module, self.keywords = source.module, list(source.inputs)
        self.condition = source.config.get("_class_name") == "UNet2DConditionModel"

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        given: dict[str, Any] = {"encoder_hidden_states": None} if self.condition else {}
        for keyword, value in zip(self.keywords, values, strict=True):
            if len(keyword) == 1:
                given[str(keyword[0])] = value
            else:
                given.setdefault(str(keyword[0]), {})[keyword[1]] = value
        result = self.module(**given)
        return result if isinstance(result, torch.Tensor) else result.sample


def export(module: torch.nn.Module, names: list[str], values: list[torch.Tensor], opset: int, dynamo: bool = False) -> bytes:
    """The file of a module whose inputs have a batch of two, which is dynamic in the file."""
    grows = {name: {0: "batch"} for name, value in zip(names, values, strict=True) if value.dim()}
    buffer: Any = io.BytesIO()  # torch writes into one, although it asks for a path
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if not dynamo:
            torch.onnx.export(
                module, tuple(values), buffer, dynamo=False, opset_version=opset, input_names=names, dynamic_axes=grows
            )
            return buffer.getvalue()
        shapes = tuple({0: torch.export.Dim.DYNAMIC} if name in grows else None for name in names)
        program = torch.onnx.export(
            module, tuple(values), dynamo=True, opset_version=opset, input_names=names, dynamic_shapes=(shapes,), verbose=False
        )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def exported(module: Flat, names: list[str], values: list[torch.Tensor], opset: int, dynamo: bool) -> bytes:
    """The same, made once by this torch: nothing of ours decides on it but the module, its parts' own files, and its inputs."""
    parts = {type(part) for part in module.modules()}
    here = sorted(
        (part for part in parts if part.__module__.split(".")[0] in ("hecompile", "tests")), key=lambda part: part.__name__
    )
    told = hashlib.sha256(repr((module, module.keywords, module.condition, names, opset, dynamo)).encode())
    for value in (*values, *module.state_dict().values()):
        told.update(f"{value.dtype} {value.shape}".encode() + value.detach().contiguous().numpy().tobytes())
    config = {name: str(value) for name, value in getattr(module.module, "config", {}).items()}
    told.update(repr(sorted(config.items())).encode())
    return shared(f"onnx {told.hexdigest()}", lambda folder: export(module, names, values, opset, dynamo), *here, ours=False)


def inputs_at(source: Source, batch: int) -> dict[str, torch.Tensor]:
    """Other inputs than those of the export."""
    generator = torch.Generator().manual_seed(batch)
    values = {}
    for keyword, example in source.inputs.items():
        shape = (batch, *example.shape[1:])
        if not example.dim():
            values[str(keyword[-1])] = example + 1
        elif example.is_floating_point():
            values[str(keyword[-1])] = torch.randn(shape, generator=generator) * example.abs().mean()
        else:
            values[str(keyword[-1])] = torch.randint(0, 2, shape, generator=generator)
    return values


def worst_difference(source: Source, opset: int, dynamo: bool = False) -> float:
    """The largest difference to the model, as imported and as canonical, relative to the model's largest entry."""
    module, names = Flat(source).eval(), [str(keyword[-1]) for keyword in source.inputs]
    imported = import_onnx(exported(module, names, list(source.inputs.values()), opset, dynamo), frozenset(PUBLIC))
    verify_graph(imported, canonical=False)
    canonical = Canonicalize().run(imported)
    verify_graph(canonical)
    kept = [spec.name for spec in canonical.inputs]
    assert kept == [name for name in names if name in kept]  # the exporter leaves out what nothing reads
    worst = 0.0
    for batch in (1, 3):
        values = inputs_at(source, batch)
        with torch.no_grad():
            expected = module(*values.values())
            results = [graph(*(values[name] for name in kept))[0] for graph in (imported, canonical)]
        for result in results:
            assert result.shape == expected.shape
            worst = max(worst, float((result - expected).abs().max() / expected.abs().max()))
    return worst


class Exportable(Attention):
    """The same attention without `mT`, which the TorchScript exporter does not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2))
        q, k, v = qkv.view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * (c // self.heads) ** -0.5
        out = torch.einsum("bhij,bhjd->bhid", (scores - scores.amax(dim=-1, keepdim=True)).softmax(-1), v)
        return x + self.out(out.permute(0, 2, 1, 3).reshape(b, h * w, c)).transpose(1, 2).reshape(b, c, h, w)


def by_hand(dynamo: bool = False) -> Source:
    module = HandwrittenUNet().eval()
    if not dynamo:
        module.attention.__class__ = Exportable
    return load_source(module, handwritten_inputs())


@pytest.mark.parametrize(("name", "opset"), LEGACY)
def test_files_of_the_torchscript_exporter_keep_their_numbers(name: str, opset: int) -> None:
    assert worst_difference(load_source(build(name)), opset) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_files_of_the_dynamo_exporter_keep_their_numbers(name: str) -> None:
    assert worst_difference(load_source(build(name)), 18, dynamo=True) <= TOLERANCE


@pytest.mark.parametrize(("opset", "dynamo"), EXPORTERS)
def test_the_digits_model_keeps_its_numbers(opset: int, dynamo: bool) -> None:
    assert worst_difference(load_source("digits"), opset, dynamo) <= TOLERANCE


@pytest.mark.parametrize(("opset", "dynamo"), EXPORTERS)
def test_a_network_written_by_hand_keeps_its_numbers(opset: int, dynamo: bool) -> None:
    assert worst_difference(by_hand(dynamo), opset, dynamo) <= TOLERANCE
