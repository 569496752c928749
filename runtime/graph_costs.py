"""Bounds what a client region costs before it runs: infers every shape, and adds up multiply-adds and bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import ProtocolError
from hecompile.onnx_attention import FUSED, attention_holds_scores, with_stand_ins
from hecompile.runtime.graph_rules import attribute_of

__all__ = ["MOST_FOLDED", "MOST_SLOW", "Value", "check_costs", "infer", "slow_entries"]

MOST_WORK = 1e13  # multiply-adds per picture; SDXL at 1024x1024 has 3e12
MOST_BYTES = 4 << 30  # bytes in use at once per picture; attention scores of 4096 tokens take 0.5 GiB for eight heads
MOST_SLOW = 1 << 20  # entries that operators of `SLOW` may compute in all regions together
MOST_FOLDED = 1 << 28  # bytes that ONNX Runtime may compute from constants while it loads all regions
SLOW = ("Mod", "Sin", "Cos")  # operators whose time depends on the values they read: large arguments take longer
_BYTES: Mapping[int, int] = {TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.BOOL: 1}
MOST_SHAPES = 64  # how often shapes may depend on other shapes
SMALL = 4096  # a constant with more entries is a weight, not a shape, axis or scale


@dataclass(frozen=True)
class Value:
    """Element type (ONNX's number for it) and shape of a value."""

    type: int
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.entries * _BYTES.get(self.type, 4)


def infer(model: onnx.ModelProto) -> dict[str, Value]:
    """Infer the type and shape of every value of a graph whose inputs have numbers as dimensions.

    Raises:
        ProtocolError: if a shape does not follow from operators and constants, or operators do not fit each other.
    """
    graph, bare = model.graph, onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = "checked"
    bare.graph.node.extend(with_stand_ins(graph.node))
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    for tensor in graph.initializer:  # inference needs the values of small constants only, so weights are not copied
        if math.prod(tensor.dims) <= SMALL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    inferred = _inferred(bare)
    for _ in range(MOST_SHAPES):  # onnx's own propagation of shape values would take a hundred bytes for each entry of a vector
        if not _resolve_shapes(bare, inferred):
            break
        inferred = _inferred(bare)
    values = {tensor.name: Value(tensor.data_type, tuple(tensor.dims)) for tensor in (*graph.initializer, *bare.graph.initializer)}
    for value in (*graph.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        if not kind.HasField("shape") or any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in kind.shape.dim):
            raise ProtocolError(f"ONNX: the shape of '{value.name[:60]}' does not follow from operators and constants")
        values[value.name] = Value(kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim))
    missing = [node.op_type for node in graph.node if node.output[0] not in values]
    if missing:
        raise ProtocolError(f"ONNX: {missing[0]} whose shape does not follow from operators and constants")
    return values


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except Exception as error:  # onnx's errors share no base class of their own
        raise ProtocolError(f"ONNX: operators that do not fit each other: {str(error)[:300]}") from error


def _resolve_shapes(model: onnx.ModelProto, inferred: onnx.GraphProto) -> bool:
    """Replace `Shape` operators whose input has a known shape by constants, and return whether there were any."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    constants = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    made = list[onnx.NodeProto]()
    for node in model.graph.node:
        dims = shapes.get(node.input[0]) if node.op_type == "Shape" else None
        if node.op_type == "Shape" and node.input[0] in constants:
            sizes = constants[node.input[0]]
        elif dims is not None and all(dim.HasField("dim_value") for dim in dims):
            sizes = [dim.dim_value for dim in dims]
        else:
            continue
        model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), node.output[0]))
        made.append(node)
    for node in made:
        model.graph.node.remove(node)
    return bool(made)


def check_costs(graph: onnx.GraphProto, values: Mapping[str, Value], batch: int) -> None:
    """Raise `ProtocolError` for a graph that needs more work or memory than any region may, or slow operators on too many
    entries."""
    slow = slow_entries(graph, values)
    if slow > MOST_SLOW:
        raise ProtocolError(
            f"ONNX: {slow} entries of {', '.join(SLOW)}, whose time would reveal secret values: at most {MOST_SLOW} are allowed"
        )
    constants = {tensor.name for tensor in graph.initializer}
    last = {name: place for place, node in enumerate(graph.node) for name in node.input if name and name not in constants}
    last |= {value.name: len(graph.node) for value in graph.output}
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        ends.setdefault(place, []).append(name)
    alive, work = sum(values[value.name].size for value in graph.input), 0.0
    for place, node in enumerate(graph.node):
        made = values[node.output[0]]
        alive += made.size
        work += _work(node, values)
        most = alive + _scratch(node, values)
        if most > MOST_BYTES * batch or work > MOST_WORK * batch:
            raise ProtocolError(
                f"ONNX: {work:.3g} multiply-adds and {most / 2**30:.3g} GiB at once are more than a region may take"
            )
        alive -= sum(values[name].size for name in ends.get(place, ()))


def slow_entries(graph: onnx.GraphProto, values: Mapping[str, Value]) -> int:
    """Return how many entries the operators of `SLOW` compute together."""
    return sum(values[node.output[0]].entries for node in graph.node if node.op_type in SLOW)


def _work(node: onnx.NodeProto, values: Mapping[str, Value]) -> float:
    """Return the multiply-adds of an operator, plus the entries that it reads and writes."""
    made = values[node.output[0]].entries
    read = [values[name] for name in node.input if name]
    touched = float(made + sum(value.entries for value in read))
    if node.op_type == "MatMul":
        return touched + made * read[0].shape[-1]
    if node.op_type == FUSED:  # every query is multiplied with every key, and its scores with every value
        return touched + (read[0].entries + made) * read[1].shape[1]
    if node.op_type == "Conv":
        return touched + made * math.prod(read[1].shape[1:])
    if node.op_type == "ConvTranspose":
        return touched + read[0].entries * math.prod(read[1].shape[1:])
    if node.op_type in ("AveragePool", "MaxPool"):
        return touched + made * math.prod(
            next((attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"), ())
        )
    return touched


def _scratch(node: onnx.NodeProto, values: Mapping[str, Value]) -> int:
    """Return the bytes that an operator needs while it runs, beyond its inputs and output.

    The fused attention copies its inputs with the heads in front. It stores all scores on some machines; on the others every thread
    has a block of them in its second-level cache, which is not counted.
    """
    if node.op_type != FUSED:
        return 0
    query, key, value = (values[name] for name in node.input)
    scores = 4 * attribute_of(node, "num_heads") * query.shape[0] * query.shape[1] * key.shape[1]
    return query.size + key.size + value.size + (scores if attention_holds_scores() else 0)
