"""Importers of ONNX operators that compute entry by entry from one value, and of PRelu."""

from __future__ import annotations

import math
from typing import Any

import torch

from hecompile.frontend.onnx.values import IMPORTERS, Call, Importer, Known, Value, imports

__all__: list[str] = []  # importers register themselves

_SELU = (1.67326319217681884765625, 1.05070102214813232421875)  # ONNX's defaults of alpha and gamma


def _unary(name: str, *extra: Any) -> Importer:
    return lambda call: call.emit(f"aten.{name}.default", call.input(0), *extra)


for _kind in ("Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tan", "Tanh", "Erf", "Floor", "Ceil", "Round",
              "Sign", "Sigmoid", "Relu", "HardSwish", "Mish"):  # fmt: skip
    IMPORTERS[_kind] = _unary(_kind.lower())
IMPORTERS |= {"Not": _unary("logical_not"), "Softplus": _unary("softplus", 1, 20)}


def _number(value: float, call: Call, x: Value) -> Known:
    """Return a number as a tensor of the type of x."""
    tensor = torch.tensor(value, dtype=torch.float32 if call.floating(x) else torch.int64)
    return Known(tensor, tensor, "number")


@imports("Swish")
def _swish(call: Call) -> Value:
    x, alpha = call.input(0), call.attr("alpha", 1.0)
    if alpha == 1:
        return call.emit("aten.silu.default", x)
    return call.emit("aten.mul.Tensor", x, call.emit("aten.sigmoid.default", call.emit("aten.mul.Tensor", x, alpha)))


@imports("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    return call.emit("aten.leaky_relu.default", call.input(0), call.attr("alpha", 0.01))


@imports("PRelu")
def _prelu(call: Call) -> Value:
    """Rewrite as max(x, 0) + slope min(x, 0)."""
    x, slope = call.input(0), call.input(1)
    number = call.number(slope)
    if number is not None and len(call.shape(slope)) <= len(call.shape(x)):
        return call.emit("aten.leaky_relu.default", x, float(number))
    below = call.emit("aten.mul.Tensor", call.emit("aten.clamp.default", x, None, 0.0), slope)
    return call.emit("aten.add.Tensor", call.emit("aten.relu.default", x), below)


@imports("Elu")
def _elu(call: Call) -> Value:
    return call.emit("aten.elu.default", call.input(0), call.attr("alpha", 1.0), 1.0, 1.0)


@imports("Selu")
def _selu(call: Call) -> Value:
    return call.emit("aten.elu.default", call.input(0), call.attr("alpha", _SELU[0]), call.attr("gamma", _SELU[1]), 1.0)


@imports("Celu")
def _celu(call: Call) -> Value:
    """Rewrite as alpha elu(x / alpha)."""
    x, alpha = call.input(0), call.attr("alpha", 1.0)
    if alpha == 1:
        return call.emit("aten.elu.default", x, 1.0, 1.0, 1.0)
    return call.emit("aten.elu.default", call.emit("aten.div.Tensor", x, alpha), 1.0, alpha, 1.0)


@imports("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Value:
    x = call.input(0)
    above = call.emit("aten.gt.Tensor", x, _number(call.attr("alpha", 1.0), call, x))
    return call.emit("aten.where.self", above, x, _number(0, call, x))


@imports("Shrink")
def _shrink(call: Call) -> Value:
    """Rewrite as x + bias below -lambd, x - bias above lambd, and 0 between."""
    x, bias, limit = call.input(0), call.attr("bias", 0.0), call.attr("lambd", 0.5)
    above, below = (call.emit(f"aten.{name}.Tensor", x, _number(at, call, x)) for name, at in (("gt", limit), ("lt", -limit)))
    inner = call.emit("aten.where.self", above, call.emit("aten.sub.Tensor", x, bias), _number(0, call, x))
    return call.emit("aten.where.self", below, call.emit("aten.add.Tensor", x, bias), inner)


@imports("Softsign")
def _softsign(call: Call) -> Value:
    x = call.input(0)
    return call.emit("aten.div.Tensor", x, call.emit("aten.add.Tensor", call.emit("aten.abs.default", x), 1.0))


@imports("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    x, alpha, beta = call.input(0), call.attr("alpha", 0.2), call.attr("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return call.emit("aten.hardsigmoid.default", x)
    return call.emit("aten.clamp.default", call.emit("aten.add.Tensor", call.emit("aten.mul.Tensor", x, alpha), beta), 0.0, 1.0)


@imports("Gelu")
def _gelu(call: Call) -> Value:
    return call.emit("aten.gelu.default", call.input(0), approximate=call.text("approximate", "none"))
