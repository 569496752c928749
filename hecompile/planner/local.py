"""Counts the work of the client's own regions: their operations, the entries that these compute, and their multiply-adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from hecompile.ir.graph import concrete_shape, info
from hecompile.ir.ops import OPS
from hecompile.machine import Machine
from hecompile.onnx_attention import FUSED, with_stand_ins

if TYPE_CHECKING:
    from torch import fx

__all__ = ["LocalWork", "graph_work", "onnx_work"]

# number of ONNX operators that an op of this kind becomes, where that is not one
OPERATORS = {"norm": 7, "activation": 2, "softmax": 1, "shape": 1, "resize": 1, "cast": 1}


@dataclass(frozen=True)
class LocalWork:
    """The work of client regions: operations, entries that they compute, and multiply-adds."""

    operations: int = 0
    entries: int = 0
    macs: int = 0

    def __add__(self, other: LocalWork) -> LocalWork:
        return LocalWork(self.operations + other.operations, self.entries + other.entries, self.macs + other.macs)

    def seconds(self, machine: Machine) -> float:
        """Return the predicted CPU seconds."""
        return (
            self.operations * machine.node_us * 1e-6
            + (self.entries * machine.entry_ns + self.macs * machine.float_ps * 1e-3) * 1e-9
        )


def graph_work(nodes: Iterable[fx.Node], batch: int) -> LocalWork:
    """Return the work of nodes that run at the client."""
    return sum((_node_work(node, batch) for node in nodes if node.op == "call_function"), LocalWork())


def _size(node: object, batch: int) -> int:
    return prod(concrete_shape(info(node).shape, batch))


def _node_work(node: fx.Node, batch: int) -> LocalWork:
    kind, size = OPS[str(node.target)].kind, _size(node, batch)
    if kind == "linear":
        weight = [int(str(dim)) for dim in info(node.args[1]).shape]
        return LocalWork(1, size, size * prod(weight[1:]))
    if kind == "bilinear":
        return LocalWork(1, size, size * int(str(info(node.args[0]).shape[-1])))
    if kind == "attention":
        keys = int(str(info(node.args[1]).shape[-2]))
        queries = prod(concrete_shape(info(node.args[0]).shape[:-1], batch))
        scores, width = queries * keys, int(str(info(node.args[0]).shape[-1]))
        if node.args[3] is None:  # one fused operator, which keeps its scores in the cache
            return LocalWork(1, scores + size, 2 * scores * width)
        return LocalWork(4, 3 * scores + size, 2 * scores * width)
    operators = OPERATORS.get(kind, 1)
    return LocalWork(operators, operators * size)


def onnx_work(data: bytes, batch: int) -> LocalWork:
    """Return the work of a client region's ONNX file."""
    import onnx

    model = onnx.load_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = int(dim.dim_param.removesuffix("B") or 1) * batch
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.node[:]
    bare.graph.node.extend(with_stand_ins(model.graph.node))
    graph = onnx.shape_inference.infer_shapes(bare).graph
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    work = LocalWork()
    for node in model.graph.node:
        size = prod(shapes.get(node.output[0], ()))
        if node.op_type == FUSED:
            work += _attention_work(node, size, shapes)
            continue
        work += LocalWork(1, size, size * _inner(node.op_type, [shapes.get(name, ()) for name in node.input]))
    return work


def _attention_work(node: Any, size: int, shapes: dict[str, tuple[int, ...]]) -> LocalWork:
    """Return the work of fused attention on (B, L, H D) and (B, S, H D), counted as in `_node_work`."""
    (batch, queries, width), keys = shapes[node.input[0]], shapes[node.input[1]][1]
    heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
    return LocalWork(1, heads * batch * queries * keys + size, keys * (batch * queries * width + size))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _inner(kind: str, shapes: list[tuple[int, ...]]) -> int:
    """Return the multiply-adds per entry of a result."""
    if kind == "Conv":
        return prod(shapes[1][1:])
    if kind == "MatMul":
        return shapes[0][-1] if shapes[0] else 0
    return shapes[1][0] if kind == "Gemm" else 0
