"""The comparison of two programs layer by layer, on layers drawn by a seed: for models that take too long as a whole."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import constant_of
from hecompile.ir.linear import Array
from hecompile.ir.ops import RELEASE
from hecompile.ir.regions import CallRegion, Program
from hecompile.ir.verify import compare, compare_region

if TYPE_CHECKING:
    from torch import fx

__all__ = ["compare_sampled_layers", "compare_sampled_regions", "random_values", "sampled_regions"]

SAMPLED = 2  # regions a pass
MOST_GMAC = 4.0  # of a region that is drawn, at batch one


def sampled_regions(program: Program, what: str, count: int = SAMPLED) -> list[CallRegion]:
    """Some of the regions of linear layers. The same pass draws the same ones, another pass others."""
    regions = [region for region in program.calls.values() if isinstance(region, CallRegion) and _gmac(region) <= MOST_GMAC]
    drawn = np.random.default_rng(zlib.crc32(what.encode())).permutation(len(regions))[:count]
    return [regions[place] for place in drawn]


def _gmac(region: CallRegion) -> float:
    """10^9 multiply-adds at batch one."""
    geometries = [product.geometry for product in region.products]
    return sum(each.rows * each.picture[0] * len(each.taps) * each.grid[0] * each.grid[1] for each in geometries) / 1e9


def random_values(program: Program, region: CallRegion, batch: int = 1) -> dict[str, Array]:
    """Values that a region reads, by name: float32, standard normal."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(program.plan.value(name).at(batch), np.float32) for name in region.inputs}


def compare_sampled_regions(before: Program, after: Program, what: str) -> None:
    """Some regions on random values: equal, or within the bound of the rounding that the pass `what` did.

    Raises:
        InternalError: naming the region and the layer.
    """
    for region in sampled_regions(after, what):
        old = before.calls[region.name]
        if isinstance(old, CallRegion):
            compare_region(old, region, random_values(after, region), what)


def compare_sampled_layers(before: ModelGraph, after: Program, what: str, tolerance: float) -> None:
    """Some layers of regions, computed as products, against the nodes of the graph that they were made of, on random values.

    Raises:
        InternalError: if a result differs by more than `tolerance` of its largest entry.
    """
    nodes = {node.name: node for node in before.nodes}
    for region in sampled_regions(after, what):
        values = random_values(after, region)
        for product in region.products:
            found = product.reference(values[product.input])
            expected = [_by_node(before, nodes[part.output], product.input, values[product.input]) for part in product.parts]
            compare(expected, found, tolerance, f"{what}, in region '{region.name}',")


def _by_node(graph: ModelGraph, node: fx.Node, value_name: str, value: Array) -> Array:
    """What a linear node makes of the value that its product reads, which an upsampling may stand before."""
    import torch

    tensor, source = torch.from_numpy(value), node.args[0]
    targets = list[Any]()
    while getattr(source, "name", value_name) != value_name:
        targets.append(source)
        source = source.args[0]  # type: ignore[union-attr]
    with torch.no_grad():
        for each in reversed(targets):
            if str(each.target) != RELEASE:  # what it shows is rounded later
                tensor = each.target(tensor, *each.args[1:])
        weights = [constant_of(graph, each) if getattr(each, "op", "") == "get_attr" else each for each in node.args[1:]]
        result: Array = node.target(tensor, *weights).numpy()  # type: ignore[operator]
    return result
