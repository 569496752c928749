"""Lists the operators that a client region may contain, and in which forms: those that the compiler emits
(`hecompile.onnx_export`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from hecompile.errors import ProtocolError
from hecompile.onnx_attention import DOMAIN, FUSED

__all__ = ["FLOATING", "LARGEST", "RULES", "TYPES", "Rule", "attribute_of", "check_attributes", "may_be_left_out"]

TYPES: Mapping[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.INT64: np.int64, TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
}  # fmt: skip
FLOATING = (TensorProto.FLOAT, TensorProto.DOUBLE)
LARGEST = 2**31  # largest absolute value of an integer attribute
_LEAST = {"kernel_shape": 1, "strides": 1, "dilations": 1, "group": 1, "pads": 0, "output_padding": 0, "perm": 0, "num_heads": 1}
_TEXTS = {
    "mode": (b"constant", b"reflect", b"edge", b"nearest", b"linear"),
    "coordinate_transformation_mode": (b"asymmetric", b"align_corners", b"half_pixel"),
    "nearest_mode": (b"floor",),
}
_INT, _FLOAT, _TEXT, _INTS = AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS


@dataclass(frozen=True)
class Rule:
    """What is allowed of an operator: `least` to `most` inputs, attributes with their types, inputs that must be constants, and the
    domain."""

    least: int
    most: int
    attributes: Mapping[str, int]
    constants: tuple[int, ...] = ()
    domain: str = ""


def _rules() -> dict[str, Rule]:
    unary = ["Not", "Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tanh", "Erf", "Floor", "Ceil", "Round", "Sign"]
    unary += ["Sigmoid", "Relu", "Softplus", "HardSwish", "Identity", "Shape"]
    binary = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or"]
    binary += ["Pow", "MatMul"]
    pool = {"kernel_shape": _INTS, "strides": _INTS, "pads": _INTS}
    conv = {"strides": _INTS, "pads": _INTS, "dilations": _INTS, "group": _INT}
    resize = {"mode": _TEXT, "coordinate_transformation_mode": _TEXT, "nearest_mode": _TEXT, "axes": _INTS}
    rules = {kind: Rule(1, 1, {}) for kind in unary} | {kind: Rule(2, 2, {}) for kind in binary}
    rules |= {f"Reduce{kind}": Rule(2, 2, {"keepdims": _INT}, (1,)) for kind in ("Mean", "Sum", "Max", "Min")}
    return rules | {
        "Cast": Rule(1, 1, {"to": _INT}),
        "LeakyRelu": Rule(1, 1, {"alpha": _FLOAT}),
        "Elu": Rule(1, 1, {"alpha": _FLOAT}),
        "HardSigmoid": Rule(1, 1, {"alpha": _FLOAT, "beta": _FLOAT}),
        "Mod": Rule(2, 2, {"fmod": _INT}),
        "Where": Rule(3, 3, {}),
        "Clip": Rule(1, 3, {}),
        "Softmax": Rule(1, 1, {"axis": _INT}),
        "Transpose": Rule(1, 1, {"perm": _INTS}),
        "Concat": Rule(1, 4096, {"axis": _INT}),
        "Gather": Rule(2, 2, {"axis": _INT}),
        "Reshape": Rule(2, 2, {}, (1,)),
        "Expand": Rule(2, 2, {}, (1,)),
        "Slice": Rule(5, 5, {}, (1, 2, 3, 4)),
        "Pad": Rule(2, 3, {"mode": _TEXT}, (1, 2)),
        "Resize": Rule(3, 4, resize, (2, 3)),
        "AveragePool": Rule(1, 1, pool | {"ceil_mode": _INT, "count_include_pad": _INT}),
        "MaxPool": Rule(1, 1, pool | {"dilations": _INTS}),
        "Conv": Rule(2, 3, conv),
        "ConvTranspose": Rule(2, 3, conv | {"output_padding": _INTS}),
        "InstanceNormalization": Rule(3, 3, {"epsilon": _FLOAT}),
        "LayerNormalization": Rule(2, 3, {"axis": _INT, "epsilon": _FLOAT}),
        FUSED: Rule(3, 3, {"num_heads": _INT, "scale": _FLOAT}, domain=DOMAIN),  # without bias, masks and cached keys
    }


RULES = _rules()
_LEFT_OUT = {"Clip": (1, 2), "Resize": (1, 2)}  # inputs that may be left out, by an empty name


def may_be_left_out(kind: str, place: int) -> bool:
    """Return whether an input of an operator may be left out by giving it an empty name."""
    return place in _LEFT_OUT.get(kind, ())


def attribute_of(node: onnx.NodeProto, name: str) -> int:
    """Return an integer attribute; 0, which is ONNX's default for the attributes that are asked for here, if it is absent."""
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)


def check_attributes(node: onnx.NodeProto, known: Mapping[str, int]) -> None:
    """Raise `ProtocolError` for attributes that the operator may not have, or that have another type or are out of range."""
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names) or not set(names) <= set(known):
        raise ProtocolError(
            f"ONNX: {node.op_type} with attributes {', '.join(names)[:100]}, known are {', '.join(known) or 'none'}"
        )
    for attribute in node.attribute:
        name, kind = attribute.name, attribute.type
        numbers = {_INT: [attribute.i], _INTS: [*attribute.ints]}.get(kind, [])
        least = _LEAST.get(name, -LARGEST)
        if kind != known[name] or len(numbers) > 32 or any(not least <= number <= LARGEST for number in numbers):
            raise ProtocolError(f"ONNX: the attribute '{name}' of {node.op_type} is malformed")
        if kind == _TEXT and attribute.s not in _TEXTS[name]:
            raise ProtocolError(f"ONNX: {node.op_type} with {name} {attribute.s[:40]!r}")
        if node.op_type == "Cast" and attribute.i not in TYPES:
            raise ProtocolError(f"ONNX: Cast to type {attribute.i}")
