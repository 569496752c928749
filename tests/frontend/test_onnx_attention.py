"""Attention of opset 23 and its norm compute what ONNX Runtime computes, with every mask and number of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontend.onnx_files import TOLERANCE, Array, calls, difference, file_of, node, normal, refusal

MASKS: dict[str, Array] = {
    "none": np.zeros(0),
    "bool": np.tril(np.ones((6, 5), bool), 1),
    "float": normal(6, 5),
    "per head": normal(4, 6, 5),
}
APART = {"q": ("B", 4, 6, 8), "k": ("B", 4, 5, 8), "v": ("B", 4, 5, 3)}
SIDE_BY_SIDE = {"q": ("B", 6, 32), "k": ("B", 5, 16), "v": ("B", 5, 12)}


def attention(inputs: dict[str, Any], mask: str = "none", **more: Any) -> bytes:
    given = [*inputs, *([] if mask == "none" else ["m"])]
    return file_of([node("Attention", given, **more)], {} if mask == "none" else {"m": MASKS[mask]}, opset=23, inputs=inputs)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_every_mask(mask: str, causal: int) -> None:
    assert difference(attention(APART, mask, is_causal=causal)) <= TOLERANCE


def test_attention_is_one_operation() -> None:
    assert calls(attention(APART)) == ["scaled_dot_product_attention"]


def test_attention_with_a_scale() -> None:
    assert difference(attention(APART, scale=0.7)) <= TOLERANCE


def test_heads_side_by_side_share_keys() -> None:
    assert difference(attention(SIDE_BY_SIDE, q_num_heads=4, kv_num_heads=2)) <= TOLERANCE


def test_attention_with_a_cache_is_refused() -> None:
    inputs = {**APART, "pk": ("B", 4, 2, 8), "pv": ("B", 4, 2, 3)}
    data = file_of([node("Attention", ["q", "k", "v", "", "pk", "pv"])], {}, opset=23, inputs=inputs)
    assert "Attention with a cache" in str(refusal(data))


@pytest.mark.parametrize("axis", [-1, 2])
def test_root_mean_square_normalization(axis: int) -> None:
    data = file_of(
        [node("RMSNormalization", ["x", "s"], axis=axis)], {"s": normal(*(8,) * (-axis if axis < 0 else 4 - axis))}, opset=23
    )
    assert difference(data) <= TOLERANCE
