"""Which operators a client region may have, and in which forms: those that the compiler emits (`hecompile.onnx_export`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from hecompile.errors import ProtocolError
from hecompile.onnx_attention import DOMAIN, FUSED

__all__ = ["FLOATING", "LARGEST", "RULES", "TYPES", "Rule", "attribute_of", "judge_attributes", "may_be_left_out"]

TYPES: Mapping[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.INT64: np.int64, TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
}  # fmt: skip
FLOATING = (TensorProto.FLOAT, TensorProto.DOUBLE)
LARGEST = 2**31  # of a number among the attributes
_LEAST = {"kernel_shape": 1, "strides": 1, "dilations": 1, "group": 1, "pads": 0, "output_padding": 0, "perm": 0, "num_heads": 1}
_TEXTS = {
    "mode": (b"constant", b"reflect", b"edge", b"nearest", b"linear"),
    "coordinate_transformation_mode": (b"asymmetric", b"align_corners", b"half_pixel"),
    "nearest_mode": (b"floor",),
}
_INT, _FLOAT, _TEXT, _INTS = AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.INTS


@dataclass(frozen=True)
class Rule:
    """What an operator may have: inputs, attributes with their types, which inputs must be constants, and its only domain."""

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
        FUSED: Rule(3, 3, {"num_heads": _INT, "scale": _FLOAT}, domain=DOMAIN),  # without bias, masks and earlier keys
    }


RULES = _rules()
_LEFT_OUT = {"Clip": (1, 2), "Resize": (1, 2)}  # inputs that may be left out, by an empty name


def may_be_left_out(kind: str, place: int) -> bool:
    """Whether an input of an operator may have an empty name."""
    return place in _LEFT_OUT.get(kind, ())


def attribute_of(node: onnx.NodeProto, name: str) -> int:
    """An attribute that is a number; zero, ONNX's own default of those asked for here, if it is absent."""
    return next((int(each.i) for each in node.attribute if each.name == name), 0)


def judge_attributes(node: onnx.NodeProto, known: Mapping[str, int]) -> None:
    """Raise `ProtocolError` for attributes that an operator does not have here, or of another type or size."""
    names = [each.name for each in node.attribute]
    if len(set(names)) != len(names) or not set(names) <= set(known):
        raise ProtocolError(
            f"ONNX: {node.op_type} with attributes {', '.join(names)[:100]}, known are {', '.join(known) or 'none'}"
        )
    for each in node.attribute:
        numbers = {_INT: [each.i], _INTS: [*each.ints]}.get(each.type, [])
        least = _LEAST.get(each.name, -LARGEST)
        if each.type != known[each.name] or len(numbers) > 32 or any(not least <= number <= LARGEST for number in numbers):
            raise ProtocolError(f"ONNX: the attribute '{each.name}' of {node.op_type} is malformed")
        if each.type == _TEXT and each.s not in _TEXTS[each.name]:
            raise ProtocolError(f"ONNX: {node.op_type} with {each.name} {each.s[:40]!r}")
        if node.op_type == "Cast" and each.i not in TYPES:
            raise ProtocolError(f"ONNX: Cast to type {each.i}")
