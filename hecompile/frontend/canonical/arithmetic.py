"""Rules for arithmetic, comparisons and selections, in which both operands get the same type (see `rewrites`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.rewrites import RULES, cast, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import info
from hecompile.ir.shapes import dtype_named

__all__ = ["Number", "add", "alike", "clamp", "floating", "power_of", "scaled", "where"]

Number = int | float


def alike(b: Builder, *sides: Any) -> list[Any]:
    """Return the operands of a call in the type in which torch computes it: values are cast, numbers stay numbers."""
    dtype = torch.result_type(*(b.fake(side)[0] if isinstance(side, fx.Node) else side for side in sides))
    return [cast(b, side, dtype) if isinstance(side, fx.Node) else side for side in sides]


def floating(b: Builder, x: Any) -> Any:
    """Return x as floating-point, cast if it is a value of integers."""
    return cast(b, x, torch.float32) if isinstance(x, fx.Node) and not info(x).dtype.startswith("float") else x


def _as_constant(b: Builder, side: Any, dtype: torch.dtype) -> fx.Node:
    return side if isinstance(side, fx.Node) else b.constant(torch.tensor(side, dtype=dtype), "number")


def _truths(*sides: Any) -> bool:
    return all(isinstance(side, fx.Node) and info(side).dtype == "bool" for side in sides)


def scaled(b: Builder, y: Any, alpha: Number) -> Any:
    """Return alpha y."""
    if alpha == 1:
        return y
    return y * alpha if isinstance(y, int | float) else _mul(b, y, alpha)


def _is_sigmoid_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.sigmoid.default" and candidate.args[0] is x


def _neutral(x: Any, number: Any, unit: Number) -> bool:
    """Return whether adding (or multiplying by) this number gives x unchanged: it is the unit, and makes no integers
    floating-point."""
    if not isinstance(number, int | float) or isinstance(number, bool) or number != unit or not isinstance(x, fx.Node):
        return False
    return info(x).dtype.startswith("float") or (isinstance(number, int) and info(x).dtype != "bool")


@rule("add.Tensor", "add.Scalar")
def add(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    """Return x + alpha y."""
    y = scaled(b, y, alpha)
    if _neutral(x, y, 0):
        return x  # type: ignore[no-any-return]
    return b.emit("aten.logical_or.default" if _truths(x, y) else "aten.add.Tensor", *alike(b, x, y))


@rule("sub.Tensor", "sub.Scalar")
def _sub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return b.emit("aten.sub.Tensor", *alike(b, x, scaled(b, y, alpha)))


@rule("rsub.Scalar", "rsub.Tensor")
def _rsub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return add(b, b.emit("aten.neg.default", scaled(b, x, alpha)), y)


@rule("mul.Tensor", "mul.Scalar")
def _mul(b: Builder, x: Any, y: Any) -> fx.Node:
    if _neutral(x, y, 1):
        return x  # type: ignore[no-any-return]
    for gate, value in ((x, y), (y, x)):
        if _is_sigmoid_of(gate, value):
            return b.emit("aten.silu.default", value)
        if isinstance(gate, fx.Node) and str(gate.target) == "aten.tanh.default" and _is_softplus_of(gate.args[0], value):
            return b.emit("aten.mish.default", value)
    return b.emit("aten.logical_and.default" if _truths(x, y) else "aten.mul.Tensor", *alike(b, x, y))


def _is_softplus_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.softplus.default" and candidate.args[0] is x


@rule("div.Tensor", "div.Scalar", "true_divide.Tensor")
def _div(b: Builder, x: Any, y: Any) -> fx.Node:
    if _neutral(x, y, 1) and info(x).dtype.startswith("float"):
        return x  # type: ignore[no-any-return]
    return b.emit("aten.div.Tensor", *(floating(b, side) for side in alike(b, x, y)))


@rule("div.Tensor_mode", "div.Scalar_mode")
def _rounded_div(b: Builder, x: Any, y: Any, *, rounding_mode: str | None = None) -> fx.Node:
    """Rewrite x / y rounded down, or towards zero. The remainder is subtracted first, so that the division is exact."""
    if rounding_mode is None:
        return _div(b, x, y)
    x, y = alike(b, x, y)
    floats = dtype_named(info(next(side for side in (x, y) if isinstance(side, fx.Node))).dtype).is_floating_point
    if floats and rounding_mode == "trunc":
        return _trunc(b, _div(b, x, y))
    whole = _sub(b, x, _left(b, x, y, "remainder" if rounding_mode == "floor" else "fmod"))
    if floats:
        return b.emit("aten.round.default", _div(b, whole, y))
    double = [cast(b, side, torch.float64) if isinstance(side, fx.Node) else side for side in (whole, y)]
    return cast(b, b.emit("aten.div.Tensor", *double), torch.int64)


@rule("floor_divide.default", "floor_divide.Scalar")
def _floor_divide(b: Builder, x: Any, y: Any) -> fx.Node:
    return _rounded_div(b, x, y, rounding_mode="floor")


def _left(b: Builder, x: Any, y: Any, name: str) -> fx.Node:
    """Return the remainder of x divided by y, entry by entry."""
    x, y = alike(b, x, y)
    dtype = dtype_named(info(next(side for side in (x, y) if isinstance(side, fx.Node))).dtype)
    return b.emit(f"aten.{name}.Tensor", *(_as_constant(b, side, dtype) for side in (x, y)))


@rule("trunc.default", "fix.default")
def _trunc(b: Builder, x: fx.Node) -> fx.Node:
    """Round towards zero."""
    if not info(x).dtype.startswith("float"):
        return x
    return b.emit("aten.mul.Tensor", b.emit("aten.sign.default", x), b.emit("aten.floor.default", b.emit("aten.abs.default", x)))


@rule("frac.default")
def _frac(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.sub.Tensor", x, _trunc(b, x))


@rule("pow.Tensor_Scalar", "pow.Tensor_Tensor")
def _pow(b: Builder, x: fx.Node, y: Any) -> fx.Node:
    if isinstance(y, int | float):
        x = alike(b, x, y)[0]
        if y == 2:
            return b.emit("aten.mul.Tensor", x, x)
        if y == 1:
            return x
        if y in (0.5, -0.5):
            root = b.emit("aten.sqrt.default", floating(b, x))
            return root if y > 0 else b.emit("aten.reciprocal.default", root)
        y = b.constant(torch.tensor(y, dtype=dtype_named(info(x).dtype)), "exponent")
    return b.emit("aten.pow.Tensor_Tensor", *alike(b, x, y))


@rule("pow.Scalar")
def power_of(b: Builder, base: Number, x: fx.Node) -> fx.Node:
    """Return base ** x."""
    x = alike(b, base, x)[1]
    return b.emit("aten.pow.Tensor_Tensor", b.constant(torch.tensor(base, dtype=dtype_named(info(x).dtype)), "base"), x)


@rule("square.default")
def _square(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", x, x)


def _compared(name: str) -> Any:
    """Return the rule of a comparison: both sides get one type, numbers become constants, and bools are compared as integers."""

    def emit(b: Builder, x: fx.Node, y: Any) -> fx.Node:
        x, y = alike(b, x, y)
        if _truths(x) and name not in ("eq", "ne"):
            x, y = cast(b, x, torch.int64), cast(b, y, torch.int64) if isinstance(y, fx.Node) else y
        return b.emit(f"aten.{name}.Tensor", x, _as_constant(b, y, dtype_named(info(x).dtype)))

    return emit


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    RULES[f"aten.{_name}.Scalar"] = RULES[f"aten.{_name}.Tensor"] = _compared(_name)


def _remainder(name: str) -> Any:
    return lambda b, x, y: _left(b, x, y, name)


for _name in ("fmod", "remainder"):
    for _overload in ("Scalar", "Tensor", "Scalar_Tensor"):
        RULES[f"aten.{_name}.{_overload}"] = _remainder(_name)


@rule("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def where(b: Builder, condition: fx.Node, x: Any, y: Any) -> fx.Node:
    """Return x where the condition holds, else y."""
    sides = alike(b, x, y)
    values = [side for side in sides if isinstance(side, fx.Node)]
    dtype = dtype_named(info(values[0]).dtype) if values else torch.result_type(x, y)
    return b.emit("aten.where.self", cast(b, condition, torch.bool), *(_as_constant(b, side, dtype) for side in sides))


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(b: Builder, x: fx.Node, mask: fx.Node, value: Any) -> fx.Node:
    dtype = dtype_named(info(x).dtype)
    return where(b, mask, cast(b, value, dtype) if isinstance(value, fx.Node) else _as_constant(b, value, dtype), x)


def _larger(name: str) -> Any:
    """Return the rule of maximum or minimum; of bools these are `or` and `and`."""
    logical = "aten.logical_or.default" if name == "maximum" else "aten.logical_and.default"

    def emit(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
        return b.emit(logical if _truths(x, y) else f"aten.{name}.default", *alike(b, x, y))

    return emit


RULES["aten.maximum.default"] = RULES["aten.fmax.default"] = RULES["aten.max.other"] = _larger("maximum")
RULES["aten.minimum.default"] = RULES["aten.fmin.default"] = RULES["aten.min.other"] = _larger("minimum")


@rule("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor", "hardtanh.default")
def clamp(b: Builder, x: fx.Node, low: Any = None, high: Any = None) -> fx.Node:
    """Return x clamped between two bounds, which may be values; None leaves a side open."""
    for bound, name in ((low, "maximum"), (high, "minimum")):
        if isinstance(bound, fx.Node):
            x = b.emit(f"aten.{name}.default", *alike(b, x, bound))
    bounds = [None if isinstance(bound, fx.Node) else bound for bound in (low, high)]
    if bounds == [None, None]:
        return x
    for bound in bounds:
        x = x if bound is None else alike(b, x, bound)[0]
    return b.emit("aten.clamp.default", x, *bounds)


@rule("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(b: Builder, x: fx.Node, low: Any) -> fx.Node:
    return clamp(b, x, low, None)


@rule("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(b: Builder, x: fx.Node, high: Any) -> fx.Node:
    return clamp(b, x, None, high)


def _logical(name: str) -> Any:
    """Return the rule of a logical operation, for which an entry is true where it is not zero."""
    return lambda b, *args: b.emit(f"aten.logical_{name}.default", *(cast(b, arg, torch.bool) for arg in args))


def _on_truths(name: str) -> Any:
    """Return the rule of a bitwise operation, which is logical on bools; on integers it is refused."""

    def emit(b: Builder, *args: Any) -> fx.Node:
        args = tuple(b.constant(torch.tensor(arg), "truth") if isinstance(arg, bool) else arg for arg in args)
        if not _truths(*args):
            help_text = "use arithmetic: x % 2 in place of x & 1, x // 2 in place of x >> 1"
            raise CompileError(
                Diagnostic("bitwise arithmetic of integers is not supported", source=b.origin.source, help=help_text)
            )
        return b.emit("aten.ne.Tensor" if name == "xor" else f"aten.logical_{name}.default", *args)

    return emit


for _name, _overload in {"and": "Tensor", "or": "Tensor", "xor": "Tensor", "not": "default"}.items():
    RULES[f"aten.bitwise_{_name}.{_overload}"] = RULES[f"aten.bitwise_{_name}.Scalar"] = _on_truths(_name)
    RULES[f"aten.logical_{_name}.default"] = _logical(_name)


@rule("logical_xor.default")
def _logical_xor(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b.emit("aten.ne.Tensor", cast(b, x, torch.bool), cast(b, y, torch.bool))
