"""How large a model is: multiply-adds at a batch of one, whatever dimension the batch stands in."""

from __future__ import annotations

import torch

from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim, InputSpec, ModelGraph
from hecompile.ir.size import gmac, is_small


def linear(*shape: Dim) -> ModelGraph:
    """A linear layer with four inputs and five outputs."""
    builder = Builder()
    x = builder.input(InputSpec("x", ("x",), shape, "float32"))
    return builder.finish([builder.emit("aten.linear.default", x, builder.constant(torch.ones(5, 4)), None)], "linear", {})


def conv(first: Dim, kernel: int) -> ModelGraph:
    """A convolution of two channels to three on pictures of 6 x 6."""
    builder = Builder()
    x, weight = builder.input(InputSpec("x", ("x",), (first, 2, 6, 6), "float32")), torch.ones(3, 2, kernel, kernel)
    padding = [kernel // 2] * 2
    return builder.finish(
        [builder.emit("aten.conv2d.default", x, builder.constant(weight), None, [1, 1], padding, [1, 1], 1)], "conv", {}
    )


def test_a_linear_layer_multiplies_its_weights_at_every_position() -> None:
    assert gmac(linear(Batch(), 7, 4)) == 7 * 20 / 1e9


def test_tokens_before_the_batch_count_as_those_behind_it() -> None:
    assert gmac(linear(7, Batch(), 4)) == 7 * 20 / 1e9


def test_several_rows_per_element_count() -> None:
    assert gmac(linear(Batch(7), 4)) == 7 * 20 / 1e9


def test_several_pictures_per_element_count() -> None:
    assert gmac(conv(Batch(4), 3)) == 4 * 36 * 54 / 1e9


def test_a_model_of_few_multiply_adds_is_small() -> None:
    assert is_small(conv(Batch(), 3))
