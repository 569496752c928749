"""The client's own regions, judged before ONNX Runtime sees them: only what the compiler emits, and nothing that tells a secret.

A file that somebody else wrote could read other files of the client (external data), or tell a secret by the time that it takes
(control flow) or by failing (an index out of range, a division by zero). So operators, attributes and types are those of a list;
shapes, axes and places are constants; places that are computed are clipped; what it costs is known and bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from hecompile.errors import ProtocolError
from hecompile.onnx_attention import DOMAIN, DOMAIN_VERSION, FUSED, WIDEST_HEAD
from hecompile.runtime.graph_costs import MOST_FOLDED, Value, infer, judge_costs, slow_entries
from hecompile.runtime.graph_rules import FLOATING, LARGEST, RULES, TYPES, attribute_of, judge_attributes, may_be_left_out
from hecompile.runtime.protobuf_scan import scan_model

__all__ = ["JudgedGraph", "judge_graph"]

OPSET, IR_VERSION = 18, 9
TURNED = ("Identity", "Reshape", "Transpose")  # what may come between a clip and the places that it makes
_NAME = re.compile(r"[A-Za-z0-9_.:/\-]{1,200}")
_BATCH = re.compile(r"([1-9][0-9]{0,5})?B")


@dataclass(frozen=True)
class JudgedGraph:
    """A region that may run: inputs and outputs with their shapes at the largest batch.

    `sources`: the inputs that each output depends on. `places`: inputs that are places in a table, and how many there are.
    `slow`: entries of operators whose time depends on them. `folded`: bytes of what no input reaches, made when it is loaded,
    beyond those of the file's own constants.
    """

    data: bytes
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    sources: Mapping[str, frozenset[str]]
    places: Mapping[str, int]
    slow: int
    folded: int


def judge_graph(data: bytes, region: str, batch: int) -> JudgedGraph:
    """Judge a client region's ONNX file at a batch: shapes at another one are others, and what fits here may not fit there.

    Raises:
        ProtocolError: naming the region, for anything that the compiler does not write, or more work or memory than is allowed.
    """
    try:
        scan_model(data)
        try:
            model = onnx.ModelProto.FromString(data)
        except Exception as error:  # protobuf's own class, which is not public
            raise ProtocolError(f"not ONNX: {str(error)[:200]}") from error
        found = _Judge(model, batch).judged(data)
        if found.folded and batch > 1:  # what grows with the batch is not made when loading
            found = replace(found, folded=_Judge(onnx.ModelProto.FromString(data), 1).judged(data).folded)
        if found.folded > MOST_FOLDED:
            raise ProtocolError(f"ONNX: {found.folded} bytes made of constants, at most {MOST_FOLDED}")
        return found
    except ProtocolError as error:
        raise ProtocolError(f"region '{region}': {error}") from error


class _Judge:
    """One graph while it is read."""

    def __init__(self, model: onnx.ModelProto, batch: int) -> None:
        self._model, self._graph, self._batch = model, model.graph, batch
        self._constants: dict[str, TensorProto] = {}
        self._sources: dict[str, frozenset[str]] = {}
        self._made: dict[str, onnx.NodeProto] = {}
        self._places: dict[str, int] = {}
        self._values: Mapping[str, Value] = {}

    def judged(self, data: bytes) -> JudgedGraph:
        model, graph = self._model, self._graph
        opsets = [(each.domain, each.version) for each in model.opset_import]
        known = [("", OPSET), *[(DOMAIN, DOMAIN_VERSION)] * any(node.op_type == FUSED for node in graph.node)]
        if opsets != known or model.ir_version != IR_VERSION:
            raise ProtocolError(f"ONNX of operator sets {opsets[:3]}, version {model.ir_version}: opset {OPSET} alone is read")
        for tensor in graph.initializer:
            self._constant(tensor)
        for value in graph.input:
            self._define(value.name, frozenset([value.name]))
            self._concrete(value)
        for node in graph.node:
            self._node(node)
        for value in graph.output:
            self._concrete(value)
            if value.name not in self._made:
                raise ProtocolError(f"ONNX: no operator makes the output '{value.name[:60]}'")
        self._values = infer(model)
        for node in graph.node:
            if node.op_type == FUSED:
                self._judge_heads(node)
        judge_costs(graph, self._values, self._batch)
        for node in graph.node:
            shapes = RULES[node.op_type].constants
            if any(name and place not in shapes and not self._values[name].entries for place, name in enumerate(node.input)):
                raise ProtocolError(f"ONNX: {node.op_type} of nothing")
            if node.op_type == "Gather":
                self._judge_places(node)
            elif node.op_type == "Pad":
                self._judge_pads(node)
            elif node.op_type in ("Div", "Mod") and self._values[node.output[0]].type not in FLOATING:
                self._judge_divisor(node)
        inputs, outputs = ({each.name: self._values[each.name].shape for each in values} for values in (graph.input, graph.output))
        sources = {name: self._sources[name] for name in outputs}
        made = sum(self._values[name].size for name in self._made if not self._sources[name])
        folded = max(
            0, made - sum(self._values[name].size for name in self._constants)
        )  # weights are turned, which the file pays for
        return JudgedGraph(data, inputs, outputs, sources, self._places, slow_entries(graph, self._values), folded)

    def _define(self, name: str, sources: frozenset[str]) -> None:
        if not _NAME.fullmatch(name) or name in self._sources:
            raise ProtocolError(f"ONNX: the name {name[:60]!r} is malformed or stands for two values")
        self._sources[name] = sources

    def _constant(self, tensor: TensorProto) -> None:
        self._define(tensor.name, frozenset())
        kind, shape = TYPES.get(tensor.data_type), tuple(tensor.dims)
        if kind is None or len(shape) > 8 or any(not 0 <= size <= LARGEST for size in shape):
            raise ProtocolError(f"ONNX: the constant '{tensor.name}' has type {tensor.data_type} or sizes out of range")
        if len(tensor.raw_data) != math.prod(shape) * np.dtype(kind).itemsize:
            raise ProtocolError(f"ONNX: the constant '{tensor.name}' has {len(tensor.raw_data)} bytes for sizes {shape}")
        self._constants[tensor.name] = tensor

    def _concrete(self, value: onnx.ValueInfoProto) -> None:
        """Write the largest batch in place of its symbol into an input's or output's shape, which must be numbers otherwise."""
        found = value.type.tensor_type
        if not value.type.HasField("tensor_type") or found.elem_type not in TYPES or not found.HasField("shape"):
            raise ProtocolError(f"ONNX: '{value.name[:60]}' has no shape, or a type that is not read")
        for dim in found.shape.dim:
            symbol = _BATCH.fullmatch(dim.dim_param) if dim.HasField("dim_param") else None
            if symbol:
                dim.dim_value = int(symbol[1] or 1) * self._batch
            if not dim.HasField("dim_value") or not 0 < dim.dim_value <= LARGEST or len(found.shape.dim) > 8:
                raise ProtocolError(f"ONNX: '{value.name[:60]}' has a dimension that is neither a number nor the batch")

    def _node(self, node: onnx.NodeProto) -> None:
        rule = RULES.get(node.op_type)
        if rule is None:
            raise ProtocolError(f"ONNX: the operator '{node.op_type[:40]}', which the compiler does not emit")
        if node.domain != rule.domain:
            raise ProtocolError(f"ONNX: {node.op_type} of the domain '{node.domain[:40]}', which the compiler does not emit")
        if not rule.least <= len(node.input) <= rule.most or len(node.output) != 1:
            raise ProtocolError(f"ONNX: {node.op_type} with {len(node.input)} inputs and {len(node.output)} outputs")
        for place, name in enumerate(node.input):
            if name == "" and may_be_left_out(node.op_type, place):
                continue
            if name not in self._sources:
                raise ProtocolError(f"ONNX: {node.op_type} reads '{name[:60]}' before it is computed")
            if place in rule.constants and not self._is_constant(node.op_type, name):
                raise ProtocolError(f"ONNX: input {place} of {node.op_type} is computed, it must be a constant")
        judge_attributes(node, rule.attributes)
        read = [self._sources[name] for name in node.input if name]
        self._define(node.output[0], frozenset().union(*read) if node.op_type != "Shape" else frozenset())
        self._made[node.output[0]] = node

    def _is_constant(self, kind: str, name: str) -> bool:
        """Whether an input is a constant, or for Expand another value's shape."""
        made = self._made.get(name)
        return name in self._constants or (kind == "Expand" and made is not None and made.op_type == "Shape")

    def _constant_of(self, name: str) -> npt.NDArray[Any] | None:
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def _judge_places(self, node: onnx.NodeProto) -> None:
        """Places are constants within the table, or clipped to it; then none of them fails."""
        table, axis = self._values[node.input[0]].shape, attribute_of(node, "axis")
        if not 0 <= axis < len(table):
            raise ProtocolError(f"ONNX: Gather along axis {axis} of {len(table)}")
        places = self._constant_of(node.input[1])
        if places is None:
            if node.input[0] not in self._constants:
                raise ProtocolError("ONNX: Gather by computed places from a table that is no constant")
            low, high, clipped = self._clipped(node.input[1])
            if self._sources.get(clipped) == frozenset([clipped]):
                self._places[clipped] = high + 1
        else:
            low, high = int(places.min(initial=0)), int(places.max(initial=0))
        if not 0 <= low <= high < table[axis]:
            raise ProtocolError(f"ONNX: Gather by places from {low} to {high} of {table[axis]}")

    def _clipped(self, name: str) -> tuple[int, int, str]:
        """The bounds of places that a clip of integers made, and what it clipped."""
        made = self._made.get(name)
        while made is not None and made.op_type in TURNED:
            made = self._made.get(made.input[0])
        if made is None or made.op_type != "Clip" or len(made.input) != 3:
            raise ProtocolError("ONNX: Gather by computed places that are not clipped")
        bounds = [self._constant_of(bound) for bound in made.input[1:]]
        found = [int(bound) for bound in bounds if bound is not None and bound.dtype.kind == "i" and bound.shape == ()]
        if len(found) != 2:
            raise ProtocolError("ONNX: Gather by places that are clipped by no integers")
        return found[0], found[1], made.input[0]

    def _judge_heads(self, node: onnx.NodeProto) -> None:
        """Queries (B, L, H D), keys (B, S, H D) and values (B, S, H F) of ONNX Runtime's attention, which counts in 32 bits."""
        query, key, value = (self._values[name] for name in node.input)
        if any(side.type != TensorProto.FLOAT or len(side.shape) != 3 for side in (query, key, value)):
            raise ProtocolError(f"ONNX: {FUSED} of something else than three dimensions of float32")
        if (query.shape[0], query.shape[2]) != (key.shape[0], key.shape[2]) or key.shape[:2] != value.shape[:2]:
            raise ProtocolError(f"ONNX: {FUSED} of {query.shape}, {key.shape} and {value.shape}, which do not fit")
        heads, widths = attribute_of(node, "num_heads"), (query.shape[2], value.shape[2])
        if heads < 1 or any(width % heads or not 1 <= width // heads <= WIDEST_HEAD for width in widths):
            raise ProtocolError(f"ONNX: {FUSED} of {heads} heads in {widths} channels, at most {WIDEST_HEAD} for each")
        if max(side.entries for side in (query, key, value, self._values[node.output[0]])) >= LARGEST:
            raise ProtocolError(f"ONNX: {FUSED} of more entries than it can count")

    def _judge_divisor(self, node: onnx.NodeProto) -> None:
        divisor = self._constant_of(node.input[1])
        if divisor is None or not divisor.size or (divisor == 0).any() or (node.op_type == "Div" and (divisor == -1).any()):
            raise ProtocolError(f"ONNX: {node.op_type} by integers that are computed, or by zero, or the least number by -1")

    def _judge_pads(self, node: onnx.NodeProto) -> None:
        """A border is not wider than what it mirrors."""
        pads, shape = self._constant_of(node.input[1]), self._values[node.input[0]].shape
        mirrors = any(each.s == b"reflect" for each in node.attribute)
        if pads is None or (mirrors and (np.abs(pads).reshape(2, -1).max(axis=0) >= shape).any()):
            raise ProtocolError("ONNX: Pad by more than there is to mirror")
