"""Finds the sites where polynomials may stand: activations of secret values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from hecompile.approx.fits import Floats
from hecompile.ir.builder import operator
from hecompile.ir.graph import ModelGraph, info

__all__ = ["FUNCTIONS", "POSITIVE", "Site", "find_sites"]

FUNCTIONS = ("silu", "gelu", "mish", "sigmoid", "tanh", "exp", "reciprocal")
POSITIVE = ("reciprocal", "rsqrt")  # functions whose arguments must be positive


@dataclass(frozen=True, eq=False)
class Site:
    """One activation: its node, the node that it reads, and its function."""

    node: fx.Node
    argument: fx.Node
    function: str

    @property
    def name(self) -> str:
        """The name of the activation's node."""
        return self.node.name

    def exact(self, x: Floats) -> Floats:
        """Evaluate the exact function in double precision."""
        value = torch.from_numpy(x)
        if self.function == "rsqrt":
            return value.rsqrt().numpy()
        result: Floats = operator(str(self.node.target))(value, *self.node.args[1:], **self.node.kwargs).numpy()
        return result


def find_sites(graph: ModelGraph) -> list[Site]:
    """Find every secret activation of `FUNCTIONS`, in execution order.

    The reciprocal of a square root is one site, with the function `rsqrt`.
    """
    sites = []
    for node in graph.nodes:
        function = str(node.target).removeprefix("aten.").removesuffix(".default")
        if node.op != "call_function" or function not in FUNCTIONS or not info(node).secret:
            continue
        argument = node.args[0]
        if not isinstance(argument, fx.Node):
            continue
        if function == "reciprocal" and str(argument.target) == "aten.sqrt.default":
            function, argument = "rsqrt", argument.all_input_nodes[0]
        sites.append(Site(node, argument, function))
    return sites
