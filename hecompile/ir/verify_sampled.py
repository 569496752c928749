"""Compares a few layers of two programs, drawn by a seed, for models that are too large to be run as a whole."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import constant_of
from hecompile.ir.linear import Array
from hecompile.ir.ops import REVEAL
from hecompile.ir.regions import CallRegion, Program
from hecompile.ir.verify import compare, compare_region

if TYPE_CHECKING:
    from torch import fx

__all__ = ["compare_sampled_layers", "compare_sampled_regions", "random_values", "sampled_regions"]

SAMPLED = 2  # regions that are compared after a pass
MOST_GMAC = 4.0  # 10^9 multiply-adds of such a region at batch one, at most


def sampled_regions(program: Program, what: str, count: int = SAMPLED) -> list[CallRegion]:
    """Draw `count` call regions of linear layers. The name of the pass, `what`, is the seed."""
    regions = [region for region in program.calls.values() if isinstance(region, CallRegion) and _gmac(region) <= MOST_GMAC]
    drawn = np.random.default_rng(zlib.crc32(what.encode())).permutation(len(regions))[:count]
    return [regions[place] for place in drawn]


def _gmac(region: CallRegion) -> float:
    """Return the region's multiply-adds at batch size one, in 10^9."""
    shapes = [linear_op.geometry for linear_op in region.linear_ops]
    return sum(shape.rows * shape.picture[0] * len(shape.taps) * shape.grid[0] * shape.grid[1] for shape in shapes) / 1e9


def random_values(program: Program, region: CallRegion, batch: int = 1) -> dict[str, Array]:
    """Return random inputs of a region by name: float32, from the standard normal distribution."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(program.plan.value(name).at(batch), np.float32) for name in region.inputs}


def compare_sampled_regions(before: Program, after: Program, what: str) -> None:
    """Compare a few regions before and after the pass `what` on random values, as `compare_regions` does.

    Raises:
        InternalError: as `compare_regions` does.
    """
    for region in sampled_regions(after, what):
        old = before.calls[region.name]
        if isinstance(old, CallRegion):
            compare_region(old, region, random_values(after, region), what)


def compare_sampled_layers(before: ModelGraph, after: Program, what: str, tolerance: float) -> None:
    """Compare the layers of a few regions with the nodes of the graph that they were made of, on random values.

    Raises:
        InternalError: if a result differs by more than `tolerance` of its largest entry.
    """
    nodes = {node.name: node for node in before.nodes}
    for region in sampled_regions(after, what):
        values = random_values(after, region)
        for linear_op in region.linear_ops:
            results = linear_op.reference(values[linear_op.input])
            expected = [_by_node(before, nodes[part.output], linear_op.input, values[linear_op.input]) for part in linear_op.parts]
            compare(expected, results, tolerance, f"{what}, in region '{region.name}',")


def _by_node(graph: ModelGraph, node: fx.Node, value_name: str, value: Array) -> Array:
    """Return the result of a linear node for a value of this name, which may go through an upsampling or a reveal first."""
    import torch

    tensor, source = torch.from_numpy(value), node.args[0]
    targets = list[Any]()
    while getattr(source, "name", value_name) != value_name:
        targets.append(source)
        source = source.args[0]  # type: ignore[union-attr]
    with torch.no_grad():
        for step in reversed(targets):
            if str(step.target) != REVEAL:  # revealed entries are rounded by a later pass
                tensor = step.target(tensor, *step.args[1:])
        rest = [
            constant_of(graph, argument) if getattr(argument, "op", "") == "get_attr" else argument for argument in node.args[1:]
        ]
        result: Array = node.target(tensor, *rest).numpy()  # type: ignore[operator]
    return result
