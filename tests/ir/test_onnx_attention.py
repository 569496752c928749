"""Attention in client regions: fused by ONNX Runtime where nothing masks it, else block by block; exact, and small in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hecompile.frontend.sources import load_source
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, InputSpec
from hecompile.ir.linear import Array
from hecompile.onnx_attention import DOMAIN, FUSED, WIDEST_HEAD, attention_holds_scores
from hecompile.onnx_export import attention, to_onnx
from hecompile.onnx_sessions import OnnxSession
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace
from hecompile.planner.local import graph_work, onnx_work
from hecompile.runtime.check_onnx import check_onnx
from tests.fuzz.budget import bounded_memory

B = Batch()
EXACT = 1e-5  # of the largest entry


def exported(shapes: Sequence[tuple[int | Batch, ...]], mask: torch.Tensor | None = None, scale: float = 0.1) -> bytes:
    """Attention of three inputs by itself."""
    builder = Builder()
    sides = [builder.input(InputSpec(name, (name,), shape, "float32")) for name, shape in zip("qkv", shapes, strict=True)]
    given = None if mask is None else builder.constant(mask)
    attended = builder.emit("aten.scaled_dot_product_attention.default", *sides, given, 0.0, False, scale=scale)
    return to_onnx(builder.finish([attended], "attention", {}).graph_module, "attention")


def feeds(shapes: Sequence[tuple[int | Batch, ...]], batch: int, size: float = 2.0) -> dict[str, Array]:
    rng = np.random.default_rng(batch)
    sizes = [[side.multiple * batch if isinstance(side, Batch) else side for side in shape] for shape in shapes]
    return {name: size * rng.standard_normal(shape, dtype=np.float32) for name, shape in zip("qkv", sizes, strict=True)}


def doubled(values: dict[str, Array], mask: Array | None = None, scale: float = 0.1) -> Array:
    """In double precision."""
    q, k, v = (values[name].astype(np.float64) for name in "qkv")
    scores = scale * q @ np.swapaxes(k, -1, -2)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    result: Array = weights @ v / weights.sum(-1, keepdims=True)
    return result


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def error(data: bytes, values: dict[str, Array], expected: Array) -> float:
    result = OnnxSession(data, 1).run(None, values)[0]
    assert result.shape == expected.shape
    return float(np.abs(result - expected).max() / np.abs(expected).max())


SHAPES = [
    pytest.param([(B, 8, 300, 40)] * 3, id="of itself"),
    pytest.param([(B, 8, 300, 40), (B, 8, 77, 40), (B, 8, 77, 40)], id="of a prompt"),
    pytest.param([(B, 3, 50, 5), (B, 3, 70, 5), (B, 3, 70, 7)], id="widths that are odd, and another of values"),
    pytest.param([(B, 1, 1, 1), (B, 1, 1, 1), (B, 1, 1, 1)], id="one token of one channel"),
    pytest.param([(B, 1, 2000, WIDEST_HEAD)] * 3, id="the widest head"),
    pytest.param([(Batch(8), 130, 24)] * 3, id="heads and batch in one dimension"),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_it_is_one_operator_that_is_exact(shapes: list[tuple[int | Batch, ...]]) -> None:
    data = exported(shapes)
    assert operators(data).count(FUSED) == 1
    check_onnx(data, "client_00", 3)
    for batch in (1, 3):
        values = feeds(shapes, batch)
        assert error(data, values, doubled(values)) < EXACT


@pytest.mark.parametrize("size", [0.0, 1e-3, 30.0])
def test_it_is_exact_for_flat_and_for_steep_scores(size: float) -> None:
    """Steep: one key takes all."""
    shapes = [(B, 4, 200, 32)] * 3
    values = feeds(shapes, 1, size)
    values["v"] += 1
    assert error(exported(shapes), values, doubled(values)) < 10 * EXACT  # scores of 1e4 are no more exact than their float32


def test_its_bits_do_not_depend_on_threads_or_batch() -> None:
    shapes = [(B, 5, 700, 40)] * 3
    data, values = exported(shapes), feeds(shapes, 3)
    first = OnnxSession(data, 1).run(None, values)[0]
    np.testing.assert_array_equal(OnnxSession(data, 2).run(None, values)[0], first)
    alone = OnnxSession(data, 1).run(None, {name: value[1:2] for name, value in values.items()})[0]
    np.testing.assert_array_equal(alone, first[1:2])


def test_no_scale_and_heads_that_are_too_wide_are_written_out() -> None:
    """A scale of zero means the usual one to ONNX Runtime."""
    wide = [(B, 2, 30, WIDEST_HEAD + 1)] * 3
    for data, shapes, scale in ((exported(wide), wide, 0.1), (exported([(B, 2, 30, 8)] * 3, scale=0.0), [(B, 2, 30, 8)] * 3, 0.0)):
        assert FUSED not in operators(data)
        assert [item.domain for item in onnx.load_from_string(data).opset_import] == [""]
        values = feeds(shapes, 1)
        assert error(data, values, doubled(values, scale=scale)) < EXACT


@pytest.mark.parametrize("scale", [0.3, -0.3])
@pytest.mark.parametrize("block_bytes", [1 << 30, 20_000, 1])
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(torch.ones(50, 70, dtype=torch.bool).tril(), id="of booleans"),
        pytest.param(torch.linspace(-3, 3, 50 * 70).reshape(1, 1, 50, 70), id="added"),
        pytest.param(torch.linspace(-3, 3, 70).reshape(1, 70), id="of keys"),
    ],
)
def test_masked_attention_is_computed_in_blocks(
    mask: torch.Tensor, block_bytes: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(B, 3, 50, 8), (B, 3, 70, 8), (B, 3, 70, 8)]
    monkeypatch.setattr(attention, "BLOCK_BYTES", block_bytes)
    data = exported(shapes, mask, scale)
    check_onnx(data, "client_00", 3)
    names = operators(data)
    assert FUSED not in names
    assert names.count("Softmax") == {1 << 30: 1, 20_000: 3, 1: 50}[block_bytes]
    for batch in (1, 3):
        values = feeds(shapes, batch)
        assert error(data, values, doubled(values, mask.numpy(), scale)) < EXACT


class Attending(nn.Module):
    """Queries, keys and values as diffusers parts them into heads, and puts them together again."""

    def forward(self, x: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        split = [side.view(side.shape[0], -1, 4, 6).transpose(1, 2) for side in (x, prompt, 0.5 * prompt)]
        attended = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2])
        return 2.0 * attended.transpose(1, 2).reshape(x.shape[0], -1, 24)


def test_no_data_is_moved_around_it() -> None:
    inputs = {"x": torch.randn(2, 20, 24), "prompt": torch.randn(2, 7, 24)}
    module = Attending().eval()
    graph = Canonicalize().run(Trace().run(load_source(module, inputs)))
    data = to_onnx(graph.graph_module, "attending")
    assert "Transpose" not in operators(data)
    assert sorted(operators(data)) == sorted(["Mul", FUSED, "Reshape", "Mul", "Identity"])
    result = OnnxSession(data, 1).run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    np.testing.assert_allclose(result, module(**inputs).numpy(), atol=1e-5)


def test_only_its_own_domain_is_imported() -> None:
    model = onnx.load_from_string(exported([(B, 8, 30, 40)] * 3))
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18), (DOMAIN, 1)]
    assert [node.op_type for node in model.graph.node if node.domain] == [FUSED]


@pytest.mark.skipif(attention_holds_scores(), reason="this machine does not tell the size of its second cache")
def test_the_scores_of_all_heads_are_never_in_memory() -> None:
    """512 MiB, of eight heads of 4096 tokens."""
    shapes = [(B, 8, 4096, 8)] * 3
    data, values = exported(shapes), feeds(shapes, 1)
    session = OnnxSession(data, 2)
    with bounded_memory():
        session.run(None, values)


def test_its_work_is_counted_the_same_from_graph_and_file() -> None:
    shapes = [(B, 8, 300, 40), (B, 8, 77, 40), (B, 8, 77, 40)]
    builder = Builder()
    sides = [builder.input(InputSpec(name, (name,), shape, "float32")) for name, shape in zip("qkv", shapes, strict=True)]
    attended = builder.emit("aten.scaled_dot_product_attention.default", *sides, None, 0.0, False, scale=0.3)
    graph = builder.finish([attended], "attention", {})
    work, of_file = graph_work(graph.graph_module.graph.nodes, 2), onnx_work(to_onnx(graph.graph_module, "attention"), 2)
    assert of_file.macs == work.macs == 2 * 2 * 8 * 300 * 77 * 40
    assert of_file.entries >= work.entries
