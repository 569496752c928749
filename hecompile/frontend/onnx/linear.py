"""Importers of ONNX's matrix products. A bias in a separate operator is merged into the product before it."""

from __future__ import annotations

from torch import fx

from hecompile.frontend.onnx.values import Call, Known, Value, imports

__all__ = ["with_bias"]

_LINEAR = "aten.linear.default"


def with_bias(call: Call, x: Value, y: Value) -> Value | None:
    """Return a linear layer and the sum after it as one; None if they are not such a pair."""
    if not isinstance(x, fx.Node) or str(x.target) != _LINEAR or x.args[2] is not None or not isinstance(y, Known):
        return None
    if not y.fixed or tuple(y.first.shape) != call.shape(x)[-1:]:
        return None
    return call.emit(_LINEAR, *x.args[:2], y)


@imports("MatMul")
def _matmul(call: Call) -> Value:
    x, y = call.input(0), call.input(1)
    if isinstance(x, fx.Node) and isinstance(y, Known) and y.fixed and y.first.dim() == 2 and len(call.shape(x)) > 1:
        weight = y.first.t().contiguous()
        return call.emit(_LINEAR, x, Known(weight, weight, y.hint), None)
    return call.emit("aten.matmul.default", x, y)


@imports("Gemm")
def _gemm(call: Call) -> Value:
    x, y, bias = call.input(0), call.input(1), call.maybe(2)
    if call.attr("transA", 0):
        x = call.emit("aten.permute.default", x, [1, 0])
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    if isinstance(y, Known) and y.fixed:
        weight = y.first if call.attr("transB", 0) else y.first.t()
        weight = (weight * alpha if alpha != 1 else weight).contiguous()
        bias = call.emit("aten.mul.Tensor", bias, beta) if bias is not None and beta != 1 else bias
        flat = isinstance(bias, Known) and bias.fixed and bias.first.dim() == 1 and len(bias.first) == len(weight)
        result = call.emit(_LINEAR, x, Known(weight, weight, y.hint), bias if flat else None)
        return result if flat or bias is None else call.emit("aten.add.Tensor", result, bias)
    y = call.emit("aten.permute.default", y, [1, 0]) if call.attr("transB", 0) else y
    result = call.emit("aten.matmul.default", x, y)
    result = call.emit("aten.mul.Tensor", result, alpha) if alpha != 1 else result
    if bias is None:
        return result
    return call.emit("aten.add.Tensor", result, call.emit("aten.mul.Tensor", bias, beta) if beta != 1 else bias)


@imports("Einsum")
def _einsum(call: Call) -> Value:
    operands = [call.input(index) for index in range(len(call.given))]
    return call.emit("aten.einsum.default", call.text("equation", ""), operands)
