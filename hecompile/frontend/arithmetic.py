"""Canonical spellings of arithmetic and activations (see `rewrites`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.frontend.rewrites import RULES, rule
from hecompile.ir.graph import info

__all__ = ["Number", "add", "scaled"]

Number = int | float


def scaled(b: Builder, y: Any, alpha: Number) -> Any:
    if alpha == 1:
        return y
    return y * alpha if isinstance(y, int | float) else b.emit("aten.mul.Tensor", y, alpha)


def _is_sigmoid_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.sigmoid.default" and candidate.args[0] is x


def _neutral(x: Any, number: Any, unit: Number) -> bool:
    """Whether x stands for the result of adding (multiplying by) a number: it is neutral and does not make integers floats."""
    if not isinstance(number, int | float) or number != unit or not isinstance(x, fx.Node):
        return False
    return isinstance(number, int) or info(x).dtype.startswith("float")


@rule("add.Tensor", "add.Scalar", "add_.Tensor")
def add(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    y = scaled(b, y, alpha)
    if _neutral(x, y, 0):
        return x  # type: ignore[no-any-return]
    return b.emit("aten.add.Tensor", x, y)


@rule("sub.Tensor", "sub.Scalar")
def _sub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return b.emit("aten.sub.Tensor", x, scaled(b, y, alpha))


@rule("rsub.Scalar", "rsub.Tensor")
def _rsub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return add(b, b.emit("aten.neg.default", scaled(b, x, alpha)), y)


@rule("mul.Tensor", "mul.Scalar", "mul_.Tensor")
def _mul(b: Builder, x: Any, y: Any) -> fx.Node:
    if _neutral(x, y, 1):
        return x  # type: ignore[no-any-return]
    for gate, value in ((x, y), (y, x)):
        if _is_sigmoid_of(gate, value):
            return b.emit("aten.silu.default", value)
        if isinstance(gate, fx.Node) and str(gate.target) == "aten.tanh.default" and _is_softplus_of(gate.args[0], value):
            return b.emit("aten.mish.default", value)
    return b.emit("aten.mul.Tensor", x, y)


def _is_softplus_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.softplus.default" and candidate.args[0] is x


@rule("div.Tensor", "div.Scalar", "div_.Tensor")
def _div(b: Builder, x: Any, y: Any) -> fx.Node:
    if _neutral(x, y, 1) and info(x).dtype.startswith("float"):
        return x  # type: ignore[no-any-return]
    return b.emit("aten.div.Tensor", x, y)


@rule("pow.Tensor_Scalar", "pow.Tensor_Tensor")
def _pow(b: Builder, x: fx.Node, y: Any) -> fx.Node:
    if y == 2:
        return b.emit("aten.mul.Tensor", x, x)
    if y == 0.5:
        return b.emit("aten.sqrt.default", x)
    exponent = b.constant(torch.tensor(float(y)), "exponent") if isinstance(y, int | float) else y
    return b.emit("aten.pow.Tensor_Tensor", x, exponent)


@rule("pow.Scalar")
def _power_of(b: Builder, base: Number, x: fx.Node) -> fx.Node:
    return b.emit("aten.pow.Tensor_Tensor", b.constant(torch.tensor(float(base)), "base"), x)


@rule("square.default")
def _square(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", x, x)


@rule("rsqrt.default")
def _rsqrt(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.reciprocal.default", b.emit("aten.sqrt.default", x))


def _with_number(name: str) -> Any:
    def emit(b: Builder, x: fx.Node, y: Any) -> fx.Node:
        return b.emit(f"aten.{name}.Tensor", x, y if isinstance(y, fx.Node) else b.constant(torch.tensor(y), "limit"))

    return emit


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "fmod", "remainder"):
    RULES[f"aten.{_name}.Scalar"] = _with_number(_name)


@rule("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(b: Builder, condition: fx.Node, x: Any, y: Any) -> fx.Node:
    dtype = next((getattr(torch, info(side).dtype) for side in (x, y) if isinstance(side, fx.Node)), torch.float32)
    sides = [side if isinstance(side, fx.Node) else b.constant(torch.tensor(side, dtype=dtype), "side") for side in (x, y)]
    return b.emit("aten.where.self", condition, *sides)


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(b: Builder, x: fx.Node, mask: fx.Node, value: Any) -> fx.Node:
    return _where(b, mask, value, x)


@rule("clamp_min.default")
def _clamp_min(b: Builder, x: fx.Node, low: float) -> fx.Node:
    return b.emit("aten.clamp.default", x, low, None)


@rule("silu_.default")
def _silu(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.silu.default", x)


@rule("relu_.default")
def _relu(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.relu.default", x)


@rule("gelu.default")
def _gelu(b: Builder, x: fx.Node, approximate: str = "none") -> fx.Node:
    return b.emit("aten.gelu.default", x, approximate=approximate)


@rule("hardtanh.default")
def _hardtanh(b: Builder, x: fx.Node, low: float = -1.0, high: float = 1.0) -> fx.Node:
    return b.emit("aten.clamp.default", x, low, high)


@rule("log1p.default")
def _log1p(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.log.default", add(b, x, 1))


@rule("expm1.default")
def _expm1(b: Builder, x: fx.Node) -> fx.Node:
    return add(b, b.emit("aten.exp.default", x), -1)


@rule("exp2.default")
def _exp2(b: Builder, x: fx.Node) -> fx.Node:
    return _power_of(b, 2, x)


@rule("tan.default")
def _tan(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.div.Tensor", b.emit("aten.sin.default", x), b.emit("aten.cos.default", x))


def _on_bools(name: str) -> Any:
    """Bitwise on bools is logical; on integers it is refused."""

    def emit(b: Builder, *args: fx.Node) -> fx.Node:
        if any(info(arg).dtype != "bool" for arg in args):
            raise CompileError(Diagnostic("bitwise arithmetic of integers", source=b.origin.source))
        return b.emit(f"aten.logical_{name}.default", *args)

    return emit


for _name, _overload in {"and": "Tensor", "or": "Tensor", "not": "default"}.items():
    RULES[f"aten.bitwise_{_name}.{_overload}"] = _on_bools(_name)
