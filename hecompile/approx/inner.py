"""Finds inner values: pictures made by layers that only one node reads, so that the client never needs them."""

from __future__ import annotations

from torch import fx

from hecompile.ir.graph import info
from hecompile.ir.linear_regions import LinearRegion
from hecompile.ir.ops import CONVOLUTIONS, SUMS, UPSAMPLE

__all__ = ["is_inner"]

PICTURES = (*CONVOLUTIONS, *SUMS, "aten.mul.Tensor", UPSAMPLE)


def is_inner(node: fx.Node) -> bool:
    """True if a norm's or activation's argument is an inner value: layers, sums and scalings make it, each read once."""
    argument = node.args[0]
    if not isinstance(argument, fx.Node) or not _joins(argument):
        return False
    region = LinearRegion(_joins)
    region.take(argument)
    return any(str(member.target) in CONVOLUTIONS for member in region.nodes)


def _joins(node: fx.Node) -> bool:
    """True for a secret picture that a layer, sum or scaling makes and that one node reads."""
    if len(node.users) != 1 or node.op != "call_function" or len(info(node).shape) != 4 or not info(node).secret:
        return False
    return str(node.target) in PICTURES
