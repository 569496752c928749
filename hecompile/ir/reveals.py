"""Reads, inserts and narrows the reveals of a graph: which channels or tiles of which values the server sees."""

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
from hecompile.ir.ops import REVEAL

if TYPE_CHECKING:
    from torch import fx

    from hecompile.ir.linear_ops import FloatLinearOp

__all__ = ["Reveal", "insert_reveals", "narrow_reveals", "read_reveal", "reveals"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reveal:
    """Which part of a value is revealed, rounded to `bits` bits: all that the mask `encrypted` does not hold.

    The mask is one of channels (C), or of tiles of the picture over all channels (rows, columns). `shares`, of the same shape, is
    which share of the value's distortion each channel or tile has.
    """

    value: str
    encrypted: Mask
    shares: Floats
    bits: int

    def with_encrypted(self, count: int) -> Reveal:
        """Return a reveal that encrypts only the `count` channels or tiles with the largest shares."""
        mask = np.zeros(self.shares.size, np.bool_)
        mask[np.argsort(self.shares, axis=None, kind="stable")[mask.size - count :]] = True
        return replace(self, encrypted=mask.reshape(self.shares.shape))


def read_reveal(graph: ModelGraph, node: fx.Node) -> Reveal:
    """Return the record of a node that reveals a value."""
    encrypted, shares = (constant_of(graph, argument).numpy() for argument in node.args[1:3])
    return Reveal(node.all_input_nodes[0].name, encrypted, shares.astype(np.float64), int(str(node.args[3])))


def reveals(graph: ModelGraph) -> dict[str, Reveal]:
    """Return the records of all reveals of a graph by the names of their nodes."""
    return {node.name: read_reveal(graph, node) for node in graph.nodes if str(node.target) == REVEAL}


def insert_reveals(graph: ModelGraph, new: Sequence[Reveal], readers: Mapping[str, Sequence[str]]) -> ModelGraph:
    """Return a copy of the graph with these reveals. `readers` gives the nodes that read each revealed value through its reveal."""
    import torch

    from hecompile.ir import own_ops as own_ops  # makes the operator known

    module = copy_module(graph.graph_module)
    nodes = {node.name: node for node in module.graph.nodes}
    for record in new:
        value = nodes[record.value]
        with module.graph.inserting_before(value.next):
            constants = [_constant(module, value, record, name) for name in ("encrypted", "shares")]
            reveal = module.graph.call_function(torch.ops.hecompile.reveal.default, (value, *constants, record.bits))
        reveal.name = f"{record.value}_reveal"
        set_info(reveal, info(value))
        for reader in readers[record.value]:
            nodes[reader].replace_input_with(value, reveal)
    module.recompile()
    return _typed(replace(graph, graph_module=module))


def narrow_reveals(graph: ModelGraph, change: Callable[[Reveal], Reveal]) -> ModelGraph:
    """Return a copy of the graph whose reveals have the masks that `change` returns; the graph itself if no mask changes."""
    records = reveals(graph)
    new = {name: change(record) for name, record in records.items()}
    if all((new[name].encrypted == records[name].encrypted).all() for name in records):
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
    """Return the graph with the partly encrypted values in its records: those of reveals, and those of the layers that read
    them."""
    partly = dict[str, Coo]()
    for layer in secret_layers(graph):
        linear_op = layer.linear_op
        if linear_op.split.reveals:
            read = _coo(linear_op)
            partly[layer.nodes[-1]] = read.through(linear_op.geometry, linear_op.weights)
            partly[_reveal_of(graph, layer.nodes[0])] = read
    return graph.with_infos(lambda node, record: replace(record, coo=partly.get(node.name)))


def _reveal_of(graph: ModelGraph, reader: str) -> str:
    """Return the name of the reveal that a layer reads."""
    return next(node.all_input_nodes[0].name for node in graph.nodes if node.name == reader)


def _coo(linear_op: FloatLinearOp) -> Coo:
    """Return which entries of a layer's input are encrypted."""
    split, tiles = linear_op.split, linear_op.split.tiles
    if tiles is None:
        return Coo(_others(split.revealed, split.channels), split.channels)
    places = np.flatnonzero(tiles.mask(*linear_op.geometry.size))
    return Coo(tuple(int(place) for place in places), math.prod(linear_op.geometry.size), "places")


def _others(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(set(range(count)) - set(numbers)))


def _constant(module: fx.GraphModule, value: fx.Node, reveal: Reveal, name: str, suffix: str = "") -> fx.Node:
    """Add the mask or the shares of a reveal to the graph as a constant."""
    import torch

    tensor = torch.from_numpy(reveal.encrypted) if name == "encrypted" else torch.from_numpy(reveal.shares).float()
    key = f"{reveal.value}_{name}{suffix}"
    module.register_buffer(key, tensor)
    node: fx.Node = module.graph.get_attr(key)
    dtype = str(tensor.dtype).removeprefix("torch.")
    set_info(node, replace(info(value), shape=tuple(tensor.shape), dtype=dtype, secret=False))
    return node
