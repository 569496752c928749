"""Which modules of the user's network the regions of a plan are made of, and how much each computes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from hecompile.ir.graph import ModelGraph, concrete_shape, info, named_shape
from hecompile.ir.modules import ModuleWork, printable_path
from hecompile.ir.ops import OPS
from hecompile.planner.local import graph_work

if TYPE_CHECKING:
    from torch import fx

__all__ = ["module_works"]

MOVING = ("shape", "cast")  # kinds of operations that compute no new number


def module_works(graph: ModelGraph, regions: Sequence[str]) -> tuple[ModuleWork, ...]:
    """A record for each module within each of these regions, in the regions' order and then in the order of the graph."""
    groups: dict[tuple[str, str], list[fx.Node]] = {}
    for node in graph.nodes:
        record = info(node)
        if node.op == "call_function" and record.region is not None and record.domain != "server_clear":
            groups.setdefault((record.region, record.path), []).append(node)
    order = {region: place for place, region in enumerate(regions)}
    records = [_work(region, path, nodes) for (region, path), nodes in groups.items() if region in order]
    return tuple(sorted(records, key=lambda record: order[record.region]))


def _work(region: str, path: str, nodes: Sequence[fx.Node]) -> ModuleWork:
    kinds = [OPS[str(node.target)] for node in nodes]
    operations = tuple(dict.fromkeys(kind.short for kind in kinds))
    layers = sum(kind.kind == "linear" for kind in kinds)
    shapes = [concrete_shape(info(node).shape, 1) for node, kind in zip(nodes, kinds, strict=True) if kind.kind not in MOVING]
    shape, macs = named_shape(info(nodes[-1]).shape), graph_work(nodes, 1).macs
    return ModuleWork(region, printable_path(path), operations, layers, shape, macs, sum(map(prod, shapes)))
