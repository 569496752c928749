"""Writes graphs anew with some nodes replaced, such as activations by polynomials, and reads rows of timestep tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import fx

from hecompile.approx.sites import Site
from hecompile.approx.tables import PolynomialTable
from hecompile.ir.builder import Builder, Origin
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layers import constant_of
from hecompile.ir.shapes import map_argument
from hecompile.ir.taint import taint
from hecompile.ir.timesteps import TRAIN_STEPS

__all__ = ["Change", "rewritten", "timestep", "timestep_row", "with_polynomials"]

Values = Mapping[fx.Node, fx.Node]
Change = Callable[[Builder, Values], fx.Node]  # builds a node's replacement, given the new nodes of all earlier nodes


def rewritten(graph: ModelGraph, changes: Mapping[str, Change]) -> ModelGraph:
    """Return a new graph in which `changes` replace nodes by name. Secrets are marked anew from the same inputs."""
    builder, values = Builder(), dict[fx.Node, fx.Node]()
    for node, spec in zip(graph.placeholders, graph.inputs, strict=True):
        values[node] = builder.input(spec)
    for node in graph.nodes:
        builder.origin = Origin(info(node).path, info(node).source)
        if node.name in changes:
            values[node] = changes[node.name](builder, values)
        elif node.op == "get_attr":
            values[node] = builder.constant(constant_of(graph, node), str(node.target))
        elif node.op == "call_function":
            args = [map_argument(arg, lambda leaf: values.get(leaf, leaf)) for arg in node.args]  # type: ignore[call-overload]
            values[node] = builder.emit(str(node.target), *args, **node.kwargs)
    by_name = {node.name: node for node in graph.nodes}
    new = builder.finish([values[by_name[name]] for name in graph.outputs], graph.name, dict(graph.config))
    public = frozenset(node.name for node in graph.placeholders if not info(node).secret)
    secret = taint(new, public)
    new = replace(new.described_as(graph), approximation=graph.approximation)
    return new.with_infos(lambda node, record: replace(record, secret=secret[node.name]))


def timestep(builder: Builder) -> fx.Node:
    """The node of the timestep, or a constant zero for a model without a timestep."""
    node = next((node for node in builder.graph.nodes if node.op == "placeholder" and node.name == "timestep"), None)
    return node or builder.constant(torch.zeros(()), "no_timestep")


def timestep_row(builder: Builder, table: torch.Tensor, hint: str) -> fx.Node:
    """Emit nodes that read the row of a table (bins, ...) for the timestep's bin. Their values are public."""
    bins = len(table)
    if bins == 1:
        return builder.constant(table[0].clone(), hint)
    scaled = builder.emit("aten.mul.Tensor", builder.emit("aten.to.dtype", timestep(builder), torch.float64), float(bins))
    place = builder.emit("aten.floor.default", builder.emit("aten.div.Tensor", scaled, float(TRAIN_STEPS)))
    clipped = builder.emit("aten.clamp.default", place, 0.0, bins - 1.0)
    index = builder.emit("aten.to.dtype", clipped, torch.int64)
    return builder.emit("aten.embedding.default", builder.constant(table, hint), index)


def with_polynomials(graph: ModelGraph, sites: list[Site], tables: Mapping[str, PolynomialTable], clamp: bool) -> ModelGraph:
    """Return the graph with each site replaced by the polynomial of its table. `clamp` clips its argument to the range first."""

    def change(site: Site) -> Change:
        low, high, coefficients = tables[site.name].tensors

        def build(builder: Builder, values: Values) -> fx.Node:
            x = values[site.argument]
            if clamp:
                x = builder.emit("aten.minimum.default", x, timestep_row(builder, high[:, None], f"{site.name}_top"))
                x = builder.emit("aten.maximum.default", x, timestep_row(builder, low[:, None], f"{site.name}_bottom"))
            named = (("low", low), ("high", high), ("coefficients", coefficients))
            constants = [builder.constant(table, f"{site.name}_{name}") for name, table in named]
            return builder.emit("hecompile.polynomial.default", x, timestep(builder), *constants)

        return build

    return rewritten(graph, {site.name: change(site) for site in sites})
