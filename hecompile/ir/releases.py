"""The releases of a graph: which channels or tiles of which values the server sees, read, inserted and narrowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile.ir.coo import Coo
from hecompile.ir.graph import ModelGraph, copy_module, info, set_info
from hecompile.ir.layers import constant_of, secret_layers
from hecompile.ir.ops import RELEASE

if TYPE_CHECKING:
    from torch import fx

    from hecompile.ir.products import Product

__all__ = ["Release", "insert_releases", "narrow_releases", "read_release", "releases"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Release:
    """What is shown of a value, rounded to `bits` bits: what is outside `encrypted`; `shares` of its distortion, of the same shape.

    Both are of its channels (C), or of tiles of its picture over all channels (rows, columns).
    """

    value: str
    encrypted: Mask
    shares: Floats
    bits: int

    def with_encrypted(self, count: int) -> Release:
        """The same with only the `count` most important channels or tiles encrypted."""
        mask = np.zeros(self.shares.size, np.bool_)
        mask[np.argsort(self.shares, axis=None, kind="stable")[mask.size - count :]] = True
        return replace(self, encrypted=mask.reshape(self.shares.shape))


def read_release(graph: ModelGraph, node: fx.Node) -> Release:
    """The record of a release node."""
    encrypted, shares = (constant_of(graph, argument).numpy() for argument in node.args[1:3])
    return Release(node.all_input_nodes[0].name, encrypted, shares.astype(np.float64), int(str(node.args[3])))


def releases(graph: ModelGraph) -> dict[str, Release]:
    """Every release by the name of its node."""
    return {node.name: read_release(graph, node) for node in graph.nodes if str(node.target) == RELEASE}


def insert_releases(graph: ModelGraph, new: Sequence[Release], readers: Mapping[str, Sequence[str]]) -> ModelGraph:
    """A copy in which the nodes that `readers` names read their values through a release."""
    import torch

    from hecompile.ir import own_ops as own_ops  # makes the operator known

    module = copy_module(graph.graph_module)
    nodes = {node.name: node for node in module.graph.nodes}
    for each in new:
        value = nodes[each.value]
        with module.graph.inserting_before(value.next):
            constants = [_constant(module, value, each, name) for name in ("encrypted", "shares")]
            release = module.graph.call_function(torch.ops.hecompile.release.default, (value, *constants, each.bits))
        release.name = f"{each.value}_release"
        set_info(release, info(value))
        for reader in readers[each.value]:
            nodes[reader].replace_input_with(value, release)
    module.recompile()
    return _typed(replace(graph, graph_module=module))


def narrow_releases(graph: ModelGraph, change: Callable[[Release], Release]) -> ModelGraph:
    """A copy in which releases show what `change` makes of them; the graph itself if nothing changes."""
    found = releases(graph)
    new = {name: change(each) for name, each in found.items()}
    if all((new[name].encrypted == found[name].encrypted).all() for name in found):
        return graph
    module = copy_module(graph.graph_module)
    for node in module.graph.nodes:
        if node.name in new:
            with module.graph.inserting_before(node):
                mask = _constant(module, node.all_input_nodes[0], new[node.name], "encrypted", "_chosen")
            node.replace_input_with(node.args[1], mask)
    module.graph.eliminate_dead_code()
    module.recompile()
    return _typed(replace(graph, graph_module=module))


def _typed(graph: ModelGraph) -> ModelGraph:
    """Releases and what the layers make of them as COO values. At the client, behind a layer, they are whole again."""
    found = dict[str, Coo]()
    for layer in secret_layers(graph):
        product = layer.product
        if product.split.shows:
            read = _coo(product)
            found[layer.nodes[-1]] = read.through(product.geometry, product.weights)
            found[_release_of(graph, layer.nodes[0])] = read
    return graph.with_infos(lambda node, record: replace(record, coo=found.get(node.name)))


def _release_of(graph: ModelGraph, reader: str) -> str:
    """The release that a layer reads."""
    return next(node.all_input_nodes[0].name for node in graph.nodes if node.name == reader)


def _coo(product: Product) -> Coo:
    """What a layer reads of a value."""
    split, tiles = product.split, product.split.tiles
    if tiles is None:
        return Coo(_others(split.released, split.channels), split.channels)
    places = np.flatnonzero(tiles.mask(*product.geometry.size))
    return Coo(tuple(int(place) for place in places), math.prod(product.geometry.size), "places")


def _others(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(set(range(count)) - set(numbers)))


def _constant(module: fx.GraphModule, value: fx.Node, release: Release, name: str, suffix: str = "") -> fx.Node:
    """The mask or the shares of a release as a constant of the graph."""
    import torch

    tensor = torch.from_numpy(release.encrypted) if name == "encrypted" else torch.from_numpy(release.shares).float()
    key = f"{release.value}_{name}{suffix}"
    module.register_buffer(key, tensor)
    node: fx.Node = module.graph.get_attr(key)
    dtype = str(tensor.dtype).removeprefix("torch.")
    set_info(node, replace(info(value), shape=tuple(tensor.shape), dtype=dtype, secret=False))
    return node
