"""Checks the client's own regions before ONNX Runtime reads them: only what the compiler emits, and nothing that reveals a secret.

A malicious ONNX file could read other files of the client (external data), or reveal a secret by how long it runs (control flow) or
by failing (an index out of range, a division by zero). So operators, attributes and types must be on a list, shapes, axes and
constant indices are checked, computed indices must be clipped, and the cost is known and bounded.
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
from hecompile.runtime.graph_costs import MOST_FOLDED, Value, check_costs, infer, slow_entries
from hecompile.runtime.graph_rules import FLOATING, LARGEST, RULES, TYPES, attribute_of, check_attributes, may_be_left_out
from hecompile.runtime.protobuf_scan import scan_model

__all__ = ["CheckedGraph", "check_onnx"]

OPSET, IR_VERSION = 18, 9
TURNED = ("Identity", "Reshape", "Transpose")  # operators that may stand between a Clip and the Gather that uses its result
_NAME = re.compile(r"[A-Za-z0-9_.:/\-]{1,200}")
_BATCH = re.compile(r"([1-9][0-9]{0,5})?B")


@dataclass(frozen=True)
class CheckedGraph:
    """A client region that may run, with the shapes of its inputs and outputs at the largest batch.

    `sources` are the inputs that each output depends on. `places` gives, for every input that indexes a table, the number of rows.
    `slow` counts entries of operators whose time depends on their values. `folded` counts bytes that ONNX Runtime computes from
    constants alone when it loads the file, beyond the size of the constants.
    """

    data: bytes
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    sources: Mapping[str, frozenset[str]]
    places: Mapping[str, int]
    slow: int
    folded: int


def check_onnx(data: bytes, region: str, batch: int) -> CheckedGraph:
    """Check a client region's ONNX file for one batch size. Another batch size has other shapes, and must be checked again.

    Raises:
        ProtocolError: naming the region, for anything that the compiler does not write, or more work or memory than is allowed.
    """
    try:
        scan_model(data)
        try:
            model = onnx.ModelProto.FromString(data)
        except Exception as error:  # protobuf's own class, which is not public
            raise ProtocolError(f"not ONNX: {str(error)[:200]}") from error
        graph = _Checker(model, batch).judged(data)
        if graph.folded and batch > 1:  # what grows with the batch is not computed while loading
            graph = replace(graph, folded=_Checker(onnx.ModelProto.FromString(data), 1).judged(data).folded)
        if graph.folded > MOST_FOLDED:
            raise ProtocolError(f"ONNX: {graph.folded} bytes computed from constants, at most {MOST_FOLDED} are allowed")
        return graph
    except ProtocolError as error:
        raise ProtocolError(f"region '{region}': {error}") from error


class _Checker:
    """Checks one graph, node by node."""

    def __init__(self, model: onnx.ModelProto, batch: int) -> None:
        self._model, self._graph, self._batch = model, model.graph, batch
        self._constants: dict[str, TensorProto] = {}
        self._sources: dict[str, frozenset[str]] = {}
        self._made: dict[str, onnx.NodeProto] = {}
        self._places: dict[str, int] = {}
        self._values: Mapping[str, Value] = {}

    def judged(self, data: bytes) -> CheckedGraph:
        """Check the whole graph. Raises `ProtocolError` for the first thing that is not allowed."""
        model, graph = self._model, self._graph
        opsets = [(opset.domain, opset.version) for opset in model.opset_import]
        known = [("", OPSET), *[(DOMAIN, DOMAIN_VERSION)] * any(node.op_type == FUSED for node in graph.node)]
        if opsets != known or model.ir_version != IR_VERSION:
            raise ProtocolError(f"ONNX with operator sets {opsets[:3]} and version {model.ir_version}: only opset {OPSET} is read")
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
                self._check_heads(node)
        check_costs(graph, self._values, self._batch)
        for node in graph.node:
            shapes = RULES[node.op_type].constants
            if any(name and place not in shapes and not self._values[name].entries for place, name in enumerate(node.input)):
                raise ProtocolError(f"ONNX: {node.op_type} of nothing")
            if node.op_type == "Gather":
                self._check_places(node)
            elif node.op_type == "Pad":
                self._check_pads(node)
            elif node.op_type in ("Div", "Mod") and self._values[node.output[0]].type not in FLOATING:
                self._check_divisor(node)
        inputs, outputs = (
            {value.name: self._values[value.name].shape for value in values} for values in (graph.input, graph.output)
        )
        sources = {name: self._sources[name] for name in outputs}
        made = sum(self._values[name].size for name in self._made if not self._sources[name])
        folded = max(
            0, made - sum(self._values[name].size for name in self._constants)
        )  # transposed weights are as large as the constants that they are computed from
        return CheckedGraph(data, inputs, outputs, sources, self._places, slow_entries(graph, self._values), folded)

    def _define(self, name: str, sources: frozenset[str]) -> None:
        """Record a new value and the inputs that it depends on."""
        if not _NAME.fullmatch(name) or name in self._sources:
            raise ProtocolError(f"ONNX: the name {name[:60]!r} is malformed or stands for two values")
        self._sources[name] = sources

    def _constant(self, tensor: TensorProto) -> None:
        """Check a constant's type and size, and record it."""
        self._define(tensor.name, frozenset())
        kind, shape = TYPES.get(tensor.data_type), tuple(tensor.dims)
        if kind is None or len(shape) > 8 or any(not 0 <= size <= LARGEST for size in shape):
            raise ProtocolError(f"ONNX: the constant '{tensor.name}' has type {tensor.data_type} or sizes out of range")
        if len(tensor.raw_data) != math.prod(shape) * np.dtype(kind).itemsize:
            raise ProtocolError(f"ONNX: the constant '{tensor.name}' has {len(tensor.raw_data)} bytes for sizes {shape}")
        self._constants[tensor.name] = tensor

    def _concrete(self, value: onnx.ValueInfoProto) -> None:
        """Replace the batch symbol in an input's or output's shape by the batch size. All other dimensions must be numbers."""
        tensor_type = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor_type.elem_type not in TYPES or not tensor_type.HasField("shape"):
            raise ProtocolError(f"ONNX: '{value.name[:60]}' has no shape, or a type that is not read")
        for dim in tensor_type.shape.dim:
            symbol = _BATCH.fullmatch(dim.dim_param) if dim.HasField("dim_param") else None
            if symbol:
                dim.dim_value = int(symbol[1] or 1) * self._batch
            if not dim.HasField("dim_value") or not 0 < dim.dim_value <= LARGEST or len(tensor_type.shape.dim) > 8:
                raise ProtocolError(f"ONNX: '{value.name[:60]}' has a dimension that is neither a number nor the batch")

    def _node(self, node: onnx.NodeProto) -> None:
        """Check an operator, its inputs and attributes, and record its output."""
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
        check_attributes(node, rule.attributes)
        read = [self._sources[name] for name in node.input if name]
        self._define(node.output[0], frozenset().union(*read) if node.op_type != "Shape" else frozenset())
        self._made[node.output[0]] = node

    def _is_constant(self, kind: str, name: str) -> bool:
        """Return whether an input is a constant, or, for Expand, the shape of another value."""
        made = self._made.get(name)
        return name in self._constants or (kind == "Expand" and made is not None and made.op_type == "Shape")

    def _constant_of(self, name: str) -> npt.NDArray[Any] | None:
        """Return the value of a constant; None if `name` is computed."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def _check_places(self, node: onnx.NodeProto) -> None:
        """Check that the indices of a Gather are constants within the table, or clipped to it, so that it can never fail."""
        table, axis = self._values[node.input[0]].shape, attribute_of(node, "axis")
        if not 0 <= axis < len(table):
            raise ProtocolError(f"ONNX: Gather along axis {axis} of {len(table)}")
        places = self._constant_of(node.input[1])
        if places is None:
            if node.input[0] not in self._constants:
                raise ProtocolError("ONNX: Gather with computed indices from a table that is not a constant")
            low, high, clipped = self._clipped(node.input[1])
            if self._sources.get(clipped) == frozenset([clipped]):
                self._places[clipped] = high + 1
        else:
            low, high = int(places.min(initial=0)), int(places.max(initial=0))
        if not 0 <= low <= high < table[axis]:
            raise ProtocolError(f"ONNX: Gather with indices from {low} to {high} in a table of {table[axis]}")

    def _clipped(self, name: str) -> tuple[int, int, str]:
        """Return the integer bounds that indices were clipped to, and the name of the value that was clipped."""
        made = self._made.get(name)
        while made is not None and made.op_type in TURNED:
            made = self._made.get(made.input[0])
        if made is None or made.op_type != "Clip" or len(made.input) != 3:
            raise ProtocolError("ONNX: Gather with computed indices that are not clipped")
        bounds = [self._constant_of(bound) for bound in made.input[1:]]
        limits = [int(bound) for bound in bounds if bound is not None and bound.dtype.kind == "i" and bound.shape == ()]
        if len(limits) != 2:
            raise ProtocolError("ONNX: Gather with indices that are not clipped to integers")
        return limits[0], limits[1], made.input[0]

    def _check_heads(self, node: onnx.NodeProto) -> None:
        """Check ONNX Runtime's attention: queries (B, L, H D), keys (B, S, H D), values (B, S, H F). It counts entries in 32
        bits."""
        query, key, value = (self._values[name] for name in node.input)
        if any(side.type != TensorProto.FLOAT or len(side.shape) != 3 for side in (query, key, value)):
            raise ProtocolError(f"ONNX: {FUSED} reads float32 values of three dimensions only")
        if (query.shape[0], query.shape[2]) != (key.shape[0], key.shape[2]) or key.shape[:2] != value.shape[:2]:
            raise ProtocolError(f"ONNX: {FUSED} of {query.shape}, {key.shape} and {value.shape}, which do not fit")
        heads, widths = attribute_of(node, "num_heads"), (query.shape[2], value.shape[2])
        if heads < 1 or any(width % heads or not 1 <= width // heads <= WIDEST_HEAD for width in widths):
            raise ProtocolError(f"ONNX: {FUSED} of {heads} heads in {widths} channels, at most {WIDEST_HEAD} for each")
        if max(side.entries for side in (query, key, value, self._values[node.output[0]])) >= LARGEST:
            raise ProtocolError(f"ONNX: {FUSED} of more entries than 32 bits can count")

    def _check_divisor(self, node: onnx.NodeProto) -> None:
        """Check that integers are divided by constants that cannot fail."""
        divisor = self._constant_of(node.input[1])
        if divisor is None or not divisor.size or (divisor == 0).any() or (node.op_type == "Div" and (divisor == -1).any()):
            raise ProtocolError(f"ONNX: {node.op_type} of integers needs a constant divisor that is not zero, and not -1 for Div")

    def _check_pads(self, node: onnx.NodeProto) -> None:
        """Check that a border that mirrors a dimension is narrower than the dimension."""
        pads, shape = self._constant_of(node.input[1]), self._values[node.input[0]].shape
        mirrors = any(attribute.s == b"reflect" for attribute in node.attribute)
        if pads is None or (mirrors and (np.abs(pads).reshape(2, -1).max(axis=0) >= shape).any()):
            raise ProtocolError("ONNX: Pad with a mirrored border that is wider than the value")
