"""What a client region costs, known before it runs: every shape is inferred, work and memory are summed and bounded."""

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

__all__ = ["MOST_FOLDED", "MOST_SLOW", "Value", "infer", "judge_costs", "slow_entries"]

MOST_WORK = 1e13  # multiply-adds for a picture; SDXL at 1024x1024 has 3e12
MOST_BYTES = 4 << 30  # alive at once for a picture; scores of 4096 tokens take 0.5 GiB for eight heads where they are held
MOST_SLOW = 1 << 20  # entries of operators whose time depends on what they get, of all regions
MOST_FOLDED = 1 << 28  # bytes of all regions that ONNX Runtime makes of constants when it loads them, beyond the constants' own
SLOW = ("Mod", "Sin", "Cos")  # the arguments' size decides how long a reduction takes
_BYTES: Mapping[int, int] = {TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.BOOL: 1}
MOST_SHAPES = 64  # shapes that depend on shapes
SMALL = 4096  # entries of constants that may be shapes, axes or scales


@dataclass(frozen=True)
class Value:
    """Type (as ONNX numbers them) and shape of a value."""

    type: int
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.entries * _BYTES.get(self.type, 4)


def infer(model: onnx.ModelProto) -> dict[str, Value]:
    """Type and shape of every value of a graph whose inputs have numbers as dimensions.

    Raises:
        ProtocolError: if one does not follow from operators and constants, or they do not fit each other.
    """
    graph, bare = model.graph, onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = "judged"
    bare.graph.node.extend(with_stand_ins(graph.node))
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    for tensor in graph.initializer:  # inference reads small constants only; weights need not be copied for it
        if math.prod(tensor.dims) <= SMALL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    found = _inferred(bare)
    for _ in range(MOST_SHAPES):  # onnx's own propagation of shapes as values takes a hundred bytes for each entry of a vector
        if not _resolve_shapes(bare, found):
            break
        found = _inferred(bare)
    values = {tensor.name: Value(tensor.data_type, tuple(tensor.dims)) for tensor in (*graph.initializer, *bare.graph.initializer)}
    for value in (*graph.input, *found.value_info, *found.output):
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


def _resolve_shapes(model: onnx.ModelProto, found: onnx.GraphProto) -> bool:
    """Put constants in place of the `Shape` operators whose input's shape is known by now; whether there were any."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*found.input, *found.value_info, *found.output)}
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


def judge_costs(graph: onnx.GraphProto, values: Mapping[str, Value], batch: int) -> None:
    """Raise `ProtocolError` for a graph that takes more work or memory than any region needs, or slow operators on many entries."""
    slow = slow_entries(graph, values)
    if slow > MOST_SLOW:
        raise ProtocolError(f"ONNX: {slow} entries of {', '.join(SLOW)}: their time would depend on them")
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
            raise ProtocolError(f"ONNX: {work:.3g} multiply-adds, {most / 2**30:.3g} GiB at once: more than a region may take")
        alive -= sum(values[name].size for name in ends.get(place, ()))


def slow_entries(graph: onnx.GraphProto, values: Mapping[str, Value]) -> int:
    """Entries of all operators together whose time depends on what they get."""
    return sum(values[node.output[0]].entries for node in graph.node if node.op_type in SLOW)


def _work(node: onnx.NodeProto, values: Mapping[str, Value]) -> float:
    """Multiply-adds of an operator, or entries that it touches."""
    made = values[node.output[0]].entries
    read = [values[name] for name in node.input if name]
    touched = float(made + sum(value.entries for value in read))
    if node.op_type == "MatMul":
        return touched + made * read[0].shape[-1]
    if node.op_type == FUSED:  # every query meets every key, and adds up every value
        return touched + (read[0].entries + made) * read[1].shape[1]
    if node.op_type == "Conv":
        return touched + made * math.prod(read[1].shape[1:])
    if node.op_type == "ConvTranspose":
        return touched + read[0].entries * math.prod(read[1].shape[1:])
    if node.op_type in ("AveragePool", "MaxPool"):
        return touched + made * math.prod(next((each.ints for each in node.attribute if each.name == "kernel_shape"), ()))
    return touched


def _scratch(node: onnx.NodeProto, values: Mapping[str, Value]) -> int:
    """Bytes that an operator takes while it runs: of the fused attention its inputs with the heads in front, and scores where held.

    Where they are not, each thread has a block of them, in a part of its second cache.
    """
    if node.op_type != FUSED:
        return 0
    query, key, value = (values[name] for name in node.input)
    scores = 4 * attribute_of(node, "num_heads") * query.shape[0] * query.shape[1] * key.shape[1]
    return query.size + key.size + value.size + (scores if attention_holds_scores() else 0)
