"""Importers of ONNX operators that compute entry by entry from several values, compare or select."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.linear import with_bias
from hecompile.frontend.onnx.norms import with_scale, with_shift
from hecompile.frontend.onnx.values import IMPORTERS, Call, Importer, Known, Value, imports

__all__: list[str] = []  # importers register themselves


def _operand(call: Call, x: Value, y: Value) -> Value | float | int:
    """Return a known single number as a number where the other operand is a node."""
    number = call.number(y)
    if number is None or not isinstance(x, fx.Node) or not isinstance(y, Known) or y.first.dim() > len(call.shape(x)):
        return y
    return number


@imports("Add")
def _add(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    x, y = (y, x) if isinstance(x, Known) else (x, y)
    return with_shift(call, x, y) or with_bias(call, x, y) or call.emit("aten.add.Tensor", x, _operand(call, x, y))


@imports("Mul")
def _mul(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    x, y = (y, x) if isinstance(x, Known) else (x, y)
    if (gated := _gelu_of(call, x, y)) is not None:
        return call.emit("aten.gelu.default", gated, approximate="none")
    return with_scale(call, x, y) or call.emit("aten.mul.Tensor", x, _operand(call, x, y))


def _gelu_of(call: Call, product: Value, half: Value) -> fx.Node | None:
    """Return x if this product is x (1 + erf(x / sqrt 2)) / 2, which is how opsets before 20 write GELU."""
    if call.number(half) != 0.5 or not isinstance(product, fx.Node) or str(product.target) != "aten.mul.Tensor":
        return None
    for x, gate in (product.args, product.args[::-1]):
        inner: Any = gate
        for name, number in (("add.Tensor", 1.0), ("erf.default", None), ("div.Tensor", math.sqrt(2))):
            if not isinstance(inner, fx.Node) or str(inner.target) != f"aten.{name}":
                break
            given = inner.args[1] if number is not None else None
            if number is not None and not (isinstance(given, int | float) and math.isclose(given, number, rel_tol=1e-6)):
                break
            inner = inner.args[0]
        else:
            return x if isinstance(x, fx.Node) and inner is x else None
    return None


@imports("Sub")
def _sub(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    number = _operand(call, y, x)
    if isinstance(number, int | float):
        return call.emit("aten.rsub.Scalar", y, number)
    return call.emit("aten.sub.Tensor", x, _operand(call, x, y))


@imports("Div")
def _div(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    if call.floating(x):
        return call.emit("aten.div.Tensor", x, _operand(call, x, y))
    if isinstance(x, fx.Node) or isinstance(y, fx.Node):
        raise CompileError(Diagnostic("division of integers is not supported", help="cast to float32 first"))
    return call.emit("aten.div.Tensor_mode", x, y, rounding_mode="trunc")


@imports("Pow")
def _pow(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    number = _operand(call, x, y)
    if isinstance(number, int | float):
        return call.emit("aten.pow.Tensor_Scalar", x, number)
    return call.emit("aten.pow.Tensor_Tensor", x, y)


@imports("Mod")
def _mod(call: Call) -> Value:
    name = "aten.fmod.Tensor" if call.attr("fmod", 0) else "aten.remainder.Tensor"
    return call.emit(name, call.input(0), call.input(1))


def _binary(name: str) -> Importer:
    return lambda call: call.emit(f"aten.{name}", call.input(0), call.input(1))


IMPORTERS |= {
    "Equal": _binary("eq.Tensor"), "Less": _binary("lt.Tensor"), "LessOrEqual": _binary("le.Tensor"),
    "Greater": _binary("gt.Tensor"), "GreaterOrEqual": _binary("ge.Tensor"), "And": _binary("logical_and.default"),
    "Or": _binary("logical_or.default"), "Xor": _binary("ne.Tensor"),
}  # fmt: skip


def _variadic(name: str) -> Importer:
    return lambda call: _joined(call, f"aten.{name}")


def _joined(call: Call, name: str) -> Value:
    """Combine all inputs, one after the other."""
    result = call.input(0)
    for index in range(1, len(call.given)):
        result = call.emit(name, result, call.input(index))
    return result


IMPORTERS |= {"Max": _variadic("maximum.default"), "Min": _variadic("minimum.default"), "Sum": _variadic("add.Tensor")}


@imports("Mean")
def _mean(call: Call) -> Value:
    total = _joined(call, "aten.add.Tensor")
    return total if len(call.given) == 1 else call.emit("aten.div.Tensor", total, len(call.given))


@imports("Where")
def _where(call: Call) -> Value:
    return call.emit("aten.where.self", call.input(0), call.input(1), call.input(2))


@imports("Clip")
def _clip(call: Call) -> Value:
    limits = []
    for index in (1, 2):
        given = call.maybe(index)
        limit = call.number(given)
        if given is not None and limit is None:
            raise CompileError(Diagnostic("Clip needs constant limits", help="use torch.minimum and torch.maximum"))
        limits.append(limit)
    return call.input(0) if limits == [None, None] else call.emit("aten.clamp.default", call.input(0), *limits)


@imports("OneHot")
def _one_hot(call: Call) -> Value:
    index, depth = call.input(0), call.ints(call.input(1), "the depth")[0]
    off_on = call.known(call.input(2), "the values").first
    if call.attr("axis", -1) not in (-1, len(call.shape(index))) or depth > 1 << 20:
        raise CompileError(
            Diagnostic("OneHot along an inner dimension is not supported", help="make it the last dimension, then permute")
        )
    places = torch.arange(depth)
    same = call.emit("aten.eq.Tensor", call.reshape(index, [*call.shape(index), 1]), Known(places, places))
    return call.emit("aten.where.self", same, Known(off_on[1], off_on[1]), Known(off_on[0], off_on[0]))
