"""Inner values: pictures that come from layers and that nothing else reads, so that no one but the server needs them."""

from __future__ import annotations

from torch import fx

from hecompile.ir.graph import info

__all__ = ["is_inner"]

LAYERS = ("aten.conv2d.default", "aten.conv_transpose2d.input")
BETWEEN = ("aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor", "aten.upsample_nearest2d.vec")


def is_inner(node: fx.Node) -> bool:
    """Whether a norm's or activation's argument is an inner value: read once, and made by layers, sums and scalings that are."""
    argument = node.args[0]
    return isinstance(argument, fx.Node) and _from_layers(argument)


def _from_layers(node: fx.Node) -> bool:
    if len(node.users) != 1 or node.op != "call_function" or len(info(node).shape) != 4 or not info(node).secret:
        return False
    if str(node.target) in LAYERS:
        return True
    return str(node.target) in BETWEEN and any(_from_layers(operand) for operand in node.all_input_nodes)
