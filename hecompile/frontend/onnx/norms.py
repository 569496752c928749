"""Importers of ONNX's norms. A scale and shift in separate operators are merged into the norm before them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Known, Value, imports
from hecompile.ir.graph import Batch

__all__ = ["with_scale", "with_shift"]

_GROUP_NORM = "aten.group_norm.default"


def _target(value: Value) -> str:
    return str(value.target) if isinstance(value, fx.Node) and value.op == "call_function" else ""


def _per_channel(call: Call, x: Value, y: Value) -> torch.Tensor | None:
    """Return y if it is a constant with one number per channel (dimension 1) of x."""
    if not isinstance(y, Known) or not y.fixed or not y.first.is_floating_point():
        return None
    shape = call.shape(x)
    own = (1,) * (len(shape) - y.first.dim()) + tuple(y.first.shape)
    if len(own) != len(shape) or own[1] != shape[1] or any(size != 1 for place, size in enumerate(own) if place != 1):
        return None
    return y.first.flatten()


def with_scale(call: Call, x: Value, y: Value) -> Value | None:
    """Return a group norm and the product after it as one; None if they are not such a pair."""
    if _target(x) != _GROUP_NORM or not isinstance(x, fx.Node) or (x.args[2], x.args[3]) != (None, None):
        return None
    scale = _per_channel(call, x, y)
    return None if scale is None else call.emit(_GROUP_NORM, *x.args[:2], Known(scale, scale, "weight"), None, x.args[4])


def with_shift(call: Call, x: Value, y: Value) -> Value | None:
    """Return a group norm and the sum after it as one; None if they are not such a pair."""
    if _target(x) != _GROUP_NORM or not isinstance(x, fx.Node) or x.args[3] is not None:
        return None
    shift = _per_channel(call, x, y)
    return None if shift is None else call.emit(_GROUP_NORM, *x.args[:3], Known(shift, shift, "bias"), x.args[4])


@imports("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.attr("training_mode", 0):
        raise CompileError(
            Diagnostic("BatchNormalization in training mode is not supported", help="call model.eval() before the export")
        )
    tensors = [call.input(index) for index in range(5)]
    return call.emit("aten.batch_norm.default", *tensors, False, 0.1, call.attr("epsilon", 1e-5), False)


@imports("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    x = call.input(0)
    shape = call.shape(x)[call.axis(x, call.attr("axis", -1)) :]
    if any(isinstance(size, Batch) for size in shape):
        raise CompileError(
            Diagnostic("LayerNormalization cannot normalise over the batch dimension", help="normalise the other dimensions only")
        )
    weight, bias = (call.known(value, "its weight") if value is not None else None for value in (call.input(1), call.maybe(2)))
    weight, bias = (None if w is None else call.both(lambda w: w.expand(shape), w) for w in (weight, bias))
    return call.emit("aten.layer_norm.default", x, list(shape), weight, bias, call.attr("epsilon", 1e-5))


@imports("RMSNormalization")
def _rms_norm(call: Call) -> Value:
    """Rewrite as x / sqrt(mean(x^2) + eps) scale, over the last dimensions."""
    x = call.input(0)
    dims = list(range(call.axis(x, call.attr("axis", -1)), len(call.shape(x))))
    squares = call.emit("aten.mean.dim", call.emit("aten.mul.Tensor", x, x), dims, True)
    deviation = call.emit("aten.sqrt.default", call.emit("aten.add.Tensor", squares, call.attr("epsilon", 1e-5)))
    return call.emit("aten.mul.Tensor", call.emit("aten.div.Tensor", x, deviation), call.input(1))


@imports("GroupNormalization")
def _group_norm(call: Call) -> Value:
    """Import a group norm, which has scale and shift per group before opset 21, and per channel since."""
    return _normalized(call, call.input(0), call.attr("num_groups"), call.attr("epsilon", 1e-5))


@imports("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    """Import an instance norm. Exporters write a group norm as a reshape to (B, groups, rest), this operator, and a reshape
    back."""
    x, eps = call.input(0), call.attr("epsilon", 1e-5)
    shape = call.shape(x)
    source: Any = x.args[0] if _target(x) == "aten.reshape.default" else None  # type: ignore[union-attr]
    groups = call.size(x, 1)
    if source is not None and len(shape) == 3:
        own = call.shape(source)
        if len(own) > 2 and own[0] == shape[0] and isinstance(own[1], int) and own[1] % groups == 0:
            return call.reshape(_normalized(call, source, groups, eps), shape)
    return _normalized(call, x, groups, eps)


def _normalized(call: Call, x: Value, groups: int, eps: float) -> Value:
    """Return a group norm with the call's scale and shift, given per group or per channel."""
    channels = call.size(x, 1)
    parts: list[Known | None] = []
    for index, neutral in ((1, 1.0), (2, 0.0)):
        part = call.known(call.input(index), "its scale").first.flatten()
        if len(part) not in (groups, channels) or channels % groups:
            raise CompileError(f"{call.kind} with {channels} channels in {groups} groups cannot have {len(part)} scales")
        if bool((part == neutral).all()):
            parts.append(None)
            continue
        part = part if len(part) == channels else part.repeat_interleave(channels // groups)
        parts.append(Known(part, part, ("weight", "bias")[index - 1]))
    return call.emit(_GROUP_NORM, x, groups, *parts, eps)
