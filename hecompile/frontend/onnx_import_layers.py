"""ONNX operators with weights, norms and resizing; affine parts written apart are joined to the layer before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx_import_values import Call, Known, Value, imports
from hecompile.ir.graph import Batch, concrete_shape
from hecompile.ir.shapes import BATCHES

__all__ = ["with_bias", "with_scale"]

_GROUP_NORM, _LINEAR = "aten.group_norm.default", "aten.linear.default"


def _target(value: Value) -> str:
    return str(value.target) if isinstance(value, fx.Node) and value.op == "call_function" else ""


def _per_channel(call: Call, x: Value, y: Value) -> torch.Tensor | None:
    """A constant with one number per channel (dimension 1) of x."""
    if not isinstance(y, Known) or not y.fixed or not y.first.is_floating_point():
        return None
    shape = call.shape(x)
    own = (1,) * (len(shape) - y.first.dim()) + tuple(y.first.shape)
    if len(own) != len(shape) or own[1] != shape[1] or any(size != 1 for place, size in enumerate(own) if place != 1):
        return None
    return y.first.flatten()


def with_scale(call: Call, x: Value, y: Value) -> Value | None:
    """A group norm and the product after it, as one."""
    if _target(x) != _GROUP_NORM or not isinstance(x, fx.Node) or (x.args[2], x.args[3]) != (None, None):
        return None
    scale = _per_channel(call, x, y)
    return None if scale is None else call.emit(_GROUP_NORM, *x.args[:2], Known(scale, scale, "weight"), None, x.args[4])


def with_bias(call: Call, x: Value, y: Value) -> Value | None:
    """A group norm or linear layer and the sum after it, as one."""
    if not isinstance(x, fx.Node):
        return None
    if _target(x) == _GROUP_NORM and x.args[3] is None:
        bias = _per_channel(call, x, y)
        return None if bias is None else call.emit(_GROUP_NORM, *x.args[:3], Known(bias, bias, "bias"), x.args[4])
    width = call.shape(x)[-1] if call.shape(x) else None
    if _target(x) == _LINEAR and x.args[2] is None and isinstance(y, Known) and y.fixed and tuple(y.first.shape) == (width,):
        return call.emit(_LINEAR, *x.args[:2], y)
    return None


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
    return call.emit("aten.einsum.default", call.attr("equation").decode(), operands)


def _window(call: Call, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding (begins, then ends) and dilation of a convolution or pool on pictures."""
    if len(kernel) != 2:
        raise CompileError(Diagnostic(f"{call.kind} in {len(kernel)} dimensions", help="only pictures (two) are supported"))
    stride, dilation = list(call.attr("strides", [1, 1])), list(call.attr("dilations", [1, 1]))
    auto = call.attr("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        return stride, list(call.attr("pads", [0] * 4)) if auto == "NOTSET" else [0] * 4, dilation
    if stride != [1, 1] or call.kind == "ConvTranspose":
        raise CompileError(Diagnostic(f"{call.kind} with auto_pad {auto}", help="give its padding in numbers"))
    totals = [reach * (size - 1) for reach, size in zip(dilation, kernel, strict=True)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return stride, small + large if auto == "SAME_UPPER" else large + small, dilation


def _even(call: Call, x: Value, pads: Sequence[int], fill: float) -> tuple[Value, list[int]]:
    """Padding that differs between the sides, done apart."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, [top, left]
    return call.emit("aten.constant_pad_nd.default", x, [left, right, top, bottom], fill), [0, 0]


@imports("Conv", "ConvTranspose")
def _conv(call: Call) -> Value:
    weight = call.known(call.input(1), "its weight")
    stride, pads, dilation = _window(call, call.attr("kernel_shape") or weight.first.shape[2:])
    bias, groups = call.maybe(2), call.attr("group", 1)
    if call.kind == "Conv":
        x, padding = _even(call, call.input(0), pads, 0.0)
        return call.emit("aten.conv2d.default", x, weight, bias, stride, padding, dilation, groups)
    if pads[:2] != pads[2:] or call.attr("output_shape"):
        raise CompileError(Diagnostic("ConvTranspose with uneven padding or output_shape", help="pad alike, or slice the result"))
    more = list(call.attr("output_padding", [0, 0]))
    return call.emit("aten.conv_transpose2d.input", call.input(0), weight, bias, stride, pads[:2], more, groups, dilation)


@imports("AveragePool", "MaxPool")
def _pool(call: Call) -> Value:
    kernel = list(call.attr("kernel_shape"))
    stride, pads, dilation = _window(call, kernel)
    if call.kind == "MaxPool":
        x, padding = _even(call, call.input(0), pads, float("-inf"))
        if call.attr("ceil_mode", 0):
            raise CompileError(Diagnostic("MaxPool with ceil_mode", help="pad the picture first"))
        return call.emit("aten.max_pool2d.default", x, kernel, stride, padding, dilation)
    counted = bool(call.attr("count_include_pad", 0))
    if dilation != [1, 1] or (pads[:2] != pads[2:] and not counted):
        raise CompileError(Diagnostic("AveragePool with dilation or uneven padding", help="pad the picture first"))
    x, padding = _even(call, call.input(0), pads, 0.0)
    return call.emit("aten.avg_pool2d.default", x, kernel, stride, padding, bool(call.attr("ceil_mode", 0)), counted)


@imports("GlobalAveragePool")
def _global_pool(call: Call) -> Value:
    x = call.input(0)
    return call.emit("aten.mean.dim", x, list(range(2, len(call.shape(x)))), True)


@imports("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.attr("training_mode", 0):
        raise CompileError(Diagnostic("BatchNormalization in training mode", help="call model.eval() before the export"))
    tensors = [call.input(index) for index in range(5)]
    return call.emit("aten.batch_norm.default", *tensors, False, 0.1, call.attr("epsilon", 1e-5), False)


@imports("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    x = call.input(0)
    shape = call.shape(x)[call.attr("axis", -1) :]
    weight, bias = (call.known(value, "its weight") if value is not None else None for value in (call.input(1), call.maybe(2)))
    weight, bias = (None if w is None else call.both(lambda w: w.expand(shape), w) for w in (weight, bias))
    return call.emit("aten.layer_norm.default", x, list(shape), weight, bias, call.attr("epsilon", 1e-5))


@imports("GroupNormalization")
def _group_norm(call: Call) -> Value:
    groups = call.attr("num_groups")
    return _normalized(call, call.input(0), groups, call.attr("epsilon", 1e-5))


@imports("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    """Statistics of whole groups are written as a reshape to (B, groups, rest), this operator, and a reshape back."""
    x, eps = call.input(0), call.attr("epsilon", 1e-5)
    shape = call.shape(x)
    source: Any = x.args[0] if _target(x) == "aten.reshape.default" else None  # type: ignore[union-attr]
    groups = shape[1]
    if isinstance(groups, Batch):
        raise CompileError("InstanceNormalization: the batch is not the first dimension")
    if source is not None and len(shape) == 3:
        own = call.shape(source)
        if len(own) > 2 and own[0] == shape[0] and isinstance(own[1], int) and own[1] % groups == 0:
            return call.reshape(_normalized(call, source, groups, eps), shape)
    return _normalized(call, x, groups, eps)


def _normalized(call: Call, x: Value, groups: int, eps: float) -> Value:
    """A group norm with the call's scale and shift, given per group or per channel."""
    channels = call.shape(x)[1]
    parts: list[Known | None] = []
    for index, neutral in ((1, 1.0), (2, 0.0)):
        part = call.known(call.input(index), "its scale").first
        if bool((part == neutral).all()):
            parts.append(None)
            continue
        part = part if len(part) == channels else part.repeat_interleave(int(channels) // groups)  # type: ignore[arg-type]
        parts.append(Known(part, part, ("weight", "bias")[index - 1]))
    return call.emit(_GROUP_NORM, x, groups, *parts, eps)


@imports("Resize")
def _resize(call: Call) -> Value:
    x = call.input(0)
    shape = call.shape(x)
    scales, sizes = call.maybe(2), call.maybe(3)
    if isinstance(scales, Known) and scales.first.numel():
        factors = [float(factor) for factor in call.known(scales, "the scales").first]
    else:
        target = [int(size) for size in call.known(sizes, "the sizes").first]
        factors = [wanted / own for wanted, own in zip(target[-2:], concrete_shape(shape, BATCHES[0])[-2:], strict=True)]
    if len(shape) != 4 or any(factor != 1 for factor in factors[:-2]):
        raise CompileError(Diagnostic("Resize of more than height and width"))
    mode, place = call.attr("mode", b"nearest").decode(), call.attr("coordinate_transformation_mode", b"half_pixel").decode()
    if mode == "nearest" and place != "align_corners" and all(factor.is_integer() for factor in factors):
        return call.emit("aten.upsample_nearest2d.vec", x, None, factors[-2:])
    if mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners") and not call.attr("antialias", 0):
        return call.emit("aten.upsample_bilinear2d.vec", x, None, place == "align_corners", factors[-2:])
    how = f"Resize by {factors[-2:]} ({mode}, {place})"
    raise CompileError(Diagnostic(how, help="use nearest with whole factors, or bilinear"))
