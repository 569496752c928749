"""Inner values: pictures that come from layers and that nothing else reads, so that no one but the server needs them."""

from __future__ import annotations

from torch import fx

from hecompile.ir.graph import info
from hecompile.ir.linear_regions import LinearRegion
from hecompile.ir.ops import CONVOLUTIONS, SUMS, UPSAMPLE

__all__ = ["is_inner"]

PICTURES = (*CONVOLUTIONS, *SUMS, "aten.mul.Tensor", UPSAMPLE)


def is_inner(node: fx.Node) -> bool:
    """Whether a norm's or activation's argument is an inner value: read once, and made by layers, sums and scalings that are."""
    argument = node.args[0]
    if not isinstance(argument, fx.Node) or not _joins(argument):
        return False
    region = LinearRegion(_joins)
    region.take(argument)
    return any(str(each.target) in CONVOLUTIONS for each in region.nodes)


def _joins(node: fx.Node) -> bool:
    if len(node.users) != 1 or node.op != "call_function" or len(info(node).shape) != 4 or not info(node).secret:
        return False
    return str(node.target) in PICTURES
