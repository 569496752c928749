"""Rules for functions of one value, computed entry by entry (see `rewrites`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError
from hecompile.frontend.canonical.arithmetic import Number, add, alike, clamp, floating, power_of, scaled, where
from hecompile.frontend.canonical.refusals import draws_numbers, refusal
from hecompile.frontend.canonical.rewrites import RULES, Rule, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import info

__all__: list[str] = []

_ACCURATE = 15.0  # above this, log(1 + exp(x)) equals x in float32


def _of_floats(name: str) -> Rule:
    """Return the rule of a function whose result is floating-point: integers are cast to float first."""
    return lambda b, x: b.emit(name, floating(b, x))


for _name in ("exp", "log", "sqrt", "reciprocal", "sin", "cos", "tanh", "erf", "sigmoid"):
    RULES[f"aten.{_name}.default"] = _of_floats(f"aten.{_name}.default")


def _rounding(name: str) -> Rule:
    """Return the rule of a rounding, which does nothing to integers."""
    return lambda b, x: b.emit(name, x) if info(x).dtype.startswith("float") else x


for _name in ("floor", "ceil", "round"):
    RULES[f"aten.{_name}.default"] = _rounding(f"aten.{_name}.default")


@rule("round.decimals")
def _round_decimals(b: Builder, x: fx.Node, *, decimals: int = 0) -> fx.Node:
    unit = 10.0 ** abs(decimals)
    there, back = ("mul", "div") if decimals >= 0 else ("div", "mul")
    return b.emit(f"aten.{back}.Tensor", b.emit("aten.round.default", b.emit(f"aten.{there}.Tensor", x, unit)), unit)


@rule("rsqrt.default")
def _rsqrt(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.reciprocal.default", b.emit("aten.sqrt.default", floating(b, x)))


@rule("relu.default")
def _relu(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.relu.default", x) if info(x).dtype.startswith("float") else clamp(b, x, 0)


@rule("gelu.default")
def _gelu(b: Builder, x: fx.Node, approximate: str = "none") -> fx.Node:
    return b.emit("aten.gelu.default", x, approximate=approximate)


@rule("elu.default")
def _elu(b: Builder, x: fx.Node, alpha: Number = 1, scale: Number = 1, inner: Number = 1) -> fx.Node:
    """Rewrite scale x above zero and scale alpha (exp(inner x) - 1) below it. Applied to inner x, it is an elu without an inner
    scale."""
    if inner == 1:
        return b.emit("aten.elu.default", x, alpha, scale, 1)
    return b.emit("aten.elu.default", b.emit("aten.mul.Tensor", x, inner), alpha * inner, scale / inner, 1)


@rule("softplus.default")
def _softplus(b: Builder, x: fx.Node, beta: Number = 1, threshold: Number = 20) -> fx.Node:
    """Rewrite log(1 + exp(beta x)) / beta, which is x where beta x is above the threshold. A low threshold changes results and is
    kept."""
    soft = b.emit("aten.softplus.default", x, beta, max(threshold, 20))
    if threshold >= _ACCURATE:
        return soft
    above = b.emit("aten.gt.Tensor", scaled(b, x, beta), b.constant(torch.tensor(float(threshold)), "threshold"))
    return where(b, above, x, soft)


@rule("rrelu_with_noise.default", "rrelu.default")
def rrelu(b: Builder, x: fx.Node, *rest: Any) -> fx.Node:
    """Rewrite a randomised leaky relu outside training, where its slope is the middle of its range."""
    low, high, training = [value for value in rest if not isinstance(value, fx.Node)][:3]
    if training:
        raise CompileError(draws_numbers(b, "rrelu in training mode"))
    return b.emit("aten.leaky_relu.default", x, (low + high) / 2)


@rule("log1p.default")
def _log1p(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.log.default", add(b, floating(b, x), 1))


@rule("expm1.default")
def _expm1(b: Builder, x: fx.Node) -> fx.Node:
    return add(b, b.emit("aten.exp.default", floating(b, x)), -1)


@rule("exp2.default")
def _exp2(b: Builder, x: fx.Node) -> fx.Node:
    return power_of(b, 2, floating(b, x))


def _log_to(base: float) -> Rule:
    return lambda b, x: b.emit("aten.mul.Tensor", b.emit("aten.log.default", floating(b, x)), 1 / math.log(base))


RULES["aten.log2.default"], RULES["aten.log10.default"] = _log_to(2), _log_to(10)


@rule("erfc.default")
def _erfc(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.add.Tensor", b.emit("aten.neg.default", b.emit("aten.erf.default", floating(b, x))), 1.0)


@rule("tan.default")
def _tan(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.div.Tensor", b.emit("aten.sin.default", x), b.emit("aten.cos.default", x))


def _hyperbolic(sign: int) -> Rule:
    """Return the rule for (exp(x) + sign exp(-x)) / 2."""

    def emit(b: Builder, x: fx.Node) -> fx.Node:
        x = floating(b, x)
        up, down = b.emit("aten.exp.default", x), b.emit("aten.exp.default", b.emit("aten.neg.default", x))
        return b.emit("aten.mul.Tensor", b.emit("aten.add.Tensor" if sign > 0 else "aten.sub.Tensor", up, down), 0.5)

    return emit


RULES["aten.sinh.default"], RULES["aten.cosh.default"] = _hyperbolic(-1), _hyperbolic(1)


@rule("asinh.default")
def _asinh(b: Builder, x: fx.Node) -> fx.Node:
    """Rewrite asinh as sign(x) log(|x| + sqrt(x^2 + 1)), in which no digits cancel."""
    size, square = b.emit("aten.abs.default", x), b.emit("aten.mul.Tensor", x, x)
    root = b.emit("aten.sqrt.default", b.emit("aten.add.Tensor", square, 1.0))
    return b.emit(
        "aten.mul.Tensor", b.emit("aten.sign.default", x), b.emit("aten.log.default", b.emit("aten.add.Tensor", size, root))
    )


@rule("acosh.default")
def _acosh(b: Builder, x: fx.Node) -> fx.Node:
    root = b.emit("aten.sqrt.default", b.emit("aten.add.Tensor", b.emit("aten.mul.Tensor", x, x), -1.0))
    return b.emit("aten.log.default", b.emit("aten.add.Tensor", x, root))


@rule("atanh.default")
def _atanh(b: Builder, x: fx.Node) -> fx.Node:
    above, below = b.emit("aten.add.Tensor", x, 1.0), b.emit("aten.add.Tensor", b.emit("aten.neg.default", x), 1.0)
    return b.emit("aten.mul.Tensor", b.emit("aten.log.default", b.emit("aten.div.Tensor", above, below)), 0.5)


@rule("hypot.default")
def _hypot(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    squares = [b.emit("aten.mul.Tensor", side, side) for side in alike(b, x, y)]
    return b.emit("aten.sqrt.default", b.emit("aten.add.Tensor", *squares))


@rule("copysign.Tensor", "copysign.Scalar")
def _copysign(b: Builder, x: fx.Node, y: Any) -> fx.Node:
    size = b.emit("aten.abs.default", x)
    side = b.emit("aten.lt.Tensor", y, b.constant(torch.tensor(0.0), "zero")) if isinstance(y, fx.Node) else y < 0
    if not isinstance(side, fx.Node):
        return b.emit("aten.neg.default", size) if side else size
    return where(b, side, b.emit("aten.neg.default", size), size)


def _infinite(b: Builder, value: float) -> fx.Node:
    return b.constant(torch.tensor(value), "infinity")


@rule("isnan.default")
def _isnan(b: Builder, x: fx.Node) -> fx.Node:
    """Rewrite isnan as x != x: only NaN differs from itself."""
    return b.emit("aten.ne.Tensor", x, x)


@rule("isinf.default")
def _isinf(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.eq.Tensor", b.emit("aten.abs.default", x), _infinite(b, math.inf))


@rule("isfinite.default")
def _isfinite(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.lt.Tensor", b.emit("aten.abs.default", x), _infinite(b, math.inf))


@rule("bucketize.Tensor", "searchsorted.Tensor")
def _bucket(b: Builder, x: fx.Node, y: fx.Node, *_: Any, right: bool = False, **__: Any) -> fx.Node:
    """Count, for each entry, the constant sorted bounds below it: `bucketize(x, bounds)`, `searchsorted(bounds, x)`."""
    bounds, values = (y, x) if b.value(y) is not None else (x, y)
    if b.value(bounds) is None or len(b.shape(bounds)) != 1:
        raise CompileError(refusal(b, "aten.searchsorted.Tensor"))
    shape = b.shape(values)
    apart = b.emit("aten.reshape.default", values, [*shape, 1])
    return b.emit(
        "aten.sum.dim_IntList", b.emit("aten.ge.Tensor" if right else "aten.gt.Tensor", apart, bounds), [len(shape)], False
    )
