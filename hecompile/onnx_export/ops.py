"""Writes arithmetic, activations, reductions, pools and resizing in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.errors import InternalError
from hecompile.ir.graph import info
from hecompile.ir.shapes import dtype_name
from hecompile.onnx_export.writer import DTYPES, EMITTERS, Emitter, Writer, emits

if TYPE_CHECKING:
    from torch import fx

Args = Sequence[Any]


def operand(w: Writer, value: Any, dtype: str) -> str:
    """Return the name of a value, or of a constant of the other operand's type for a number."""
    return value if isinstance(value, str) else w.constant(value, np.dtype(dtype))


def _operand_dtype(node: fx.Node) -> str:
    """Return the type of both operands, which is that of the arguments after torch's promotion."""
    import torch

    kinds = [getattr(torch, info(arg).dtype) for arg in node.all_input_nodes]
    result = kinds[0]
    for kind in kinds[1:]:
        result = torch.promote_types(result, kind)
    if any(isinstance(arg, float) for arg in node.args) and not result.is_floating_point:
        result = torch.float32
    return dtype_name(result)


def _binary(kind: str) -> Emitter:
    def emit(w: Writer, node: fx.Node, args: Args) -> str:
        dtype = _operand_dtype(node)
        if kind == "Div" and not dtype.startswith("float"):
            dtype = "float32"
        sides = []
        for name, argument in zip(args[:2], node.args[:2], strict=True):
            side = operand(w, name, dtype)
            if isinstance(name, str) and info(argument).dtype != dtype:
                side = w.call("Cast", [side], to=DTYPES[dtype])
            sides.append(side)
        return w.call(kind, sides)

    return emit


for _name, _kind in {
    "add.Tensor": "Add", "sub.Tensor": "Sub", "mul.Tensor": "Mul", "div.Tensor": "Div", "maximum.default": "Max",
    "minimum.default": "Min", "eq.Tensor": "Equal", "lt.Tensor": "Less", "le.Tensor": "LessOrEqual", "gt.Tensor": "Greater",
    "ge.Tensor": "GreaterOrEqual", "logical_and.default": "And", "logical_or.default": "Or", "pow.Tensor_Tensor": "Pow",
}.items():  # fmt: skip
    EMITTERS[f"aten.{_name}"] = _binary(_kind)


@emits("ne.Tensor")
def _ne(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Not", [_binary("Equal")(w, node, args)])


@emits("fmod.Tensor")
def _fmod(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Mod", [args[0], operand(w, args[1], info(node).dtype)], fmod=1)


@emits("remainder.Tensor")
def _remainder(w: Writer, node: fx.Node, args: Args) -> str:
    """Write the remainder: that of fmod, which is exact, plus y where its sign differs from y's."""
    dtype = info(node).dtype
    y = operand(w, args[1], dtype)
    if not dtype.startswith("float"):
        return w.call("Mod", [args[0], y])
    zero = w.constant(0, np.dtype(dtype))
    left = w.call("Mod", [args[0], y], fmod=1)
    other = w.call("Less", [w.call("Mul", [left, w.call("Sign", [y])]), zero])
    return w.call("Add", [left, w.call("Where", [other, y, zero])])


@emits("where.self")
def _where(w: Writer, node: fx.Node, args: Args) -> str:
    dtype = info(node).dtype
    sides = [
        name if info(side).dtype == dtype else w.call("Cast", [name], to=DTYPES[dtype])
        for name, side in zip(args[1:], node.args[1:], strict=True)
    ]
    return w.call("Where", [args[0], *sides])


def _completed(given: Args, defaults: Args) -> list[Any]:
    """Return the arguments of a node, followed by torch's defaults for those that it leaves out."""
    return [*given, *defaults[len(given) :]]


def _unary(kind: str) -> Emitter:
    return lambda w, node, args: w.call(kind, args[:1])


for _name, _kind in {
    "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin", "cos": "Cos",
    "tanh": "Tanh", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign", "sigmoid": "Sigmoid",
    "relu": "Relu", "logical_not": "Not",
}.items():  # fmt: skip
    EMITTERS[f"aten.{_name}.default"] = _unary(_kind)


@emits("silu.default")
def _silu(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Mul", [args[0], w.call("Sigmoid", args)])


@emits("gelu.default")
def _gelu(w: Writer, node: fx.Node, args: Args) -> str:
    x = args[0]
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = w.call("Mul", [x, w.call("Mul", [x, w.call("Mul", [x, w.constant(0.044715, np.float32)])])])
        inner = w.call("Mul", [w.call("Add", [x, cube]), w.constant(np.sqrt(2 / np.pi), np.float32)])
        gate = w.call("Tanh", [inner])
    else:  # ONNX Runtime fuses this form into one operator, three times as fast; a product with the inverse is not fused
        gate = w.call("Erf", [w.call("Div", [x, w.constant(np.sqrt(2), np.float32)])])
    half = w.call("Mul", [x, w.constant(0.5, np.float32)])
    return w.call("Mul", [half, w.call("Add", [gate, w.constant(1.0, np.float32)])])


@emits("leaky_relu.default")
def _leaky_relu(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("LeakyRelu", args[:1], alpha=float(args[1] if len(args) > 1 else 0.01))


@emits("elu.default")
def _elu(w: Writer, node: fx.Node, args: Args) -> str:
    alpha, scale, inner = _completed(args[1:], (1.0, 1.0, 1.0))
    if inner != 1:
        raise InternalError("elu with an input scale")
    result = w.call("Elu", args[:1], alpha=float(alpha))
    return result if scale == 1 else w.call("Mul", [result, w.constant(scale, np.float32)])


@emits("mish.default")
def _mish(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Mul", [args[0], w.call("Tanh", [w.call("Softplus", args)])])


@emits("softplus.default")
def _softplus(w: Writer, node: fx.Node, args: Args) -> str:
    beta = w.constant(args[1] if len(args) > 1 else 1.0, np.float32)
    return w.call("Div", [w.call("Softplus", [w.call("Mul", [args[0], beta])]), beta])


@emits("hardsigmoid.default")
def _hardsigmoid(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("HardSigmoid", args, alpha=1 / 6, beta=0.5)


@emits("hardswish.default")
def _hardswish(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("HardSwish", args)


@emits("clamp.default")
def _clamp(w: Writer, node: fx.Node, args: Args) -> str:
    dtype = info(node).dtype
    bounds = ["" if bound is None else operand(w, bound, dtype) for bound in (*args[1:], None, None)[:2]]
    return w.call("Clip", [args[0], *bounds])


def _reduce(kind: str) -> Emitter:
    def emit(w: Writer, node: fx.Node, args: Args) -> str:
        dims = args[1] if isinstance(args[1], list) else [args[1]]
        keep = int(bool(args[2])) if len(args) > 2 else 0
        x, dtype = args[0], info(node).dtype
        if info(node.args[0]).dtype != dtype:  # torch sums bools as integers
            x = w.call("Cast", [x], to=DTYPES[dtype])
        return w.call(kind, [x, w.ints(dims)], keepdims=keep)

    return emit


for _name, _kind in {
    "mean.dim": "ReduceMean", "sum.dim_IntList": "ReduceSum", "amax.default": "ReduceMax", "amin.default": "ReduceMin",
}.items():  # fmt: skip
    EMITTERS[f"aten.{_name}"] = _reduce(_kind)


def _two(values: Any) -> list[int]:
    pair: list[int] = list(values) if isinstance(values, list | tuple) else [values]
    return pair * (2 // len(pair))


@emits("avg_pool2d.default")
def _avg_pool(w: Writer, node: fx.Node, args: Args) -> str:
    kernel, stride, padding, ceil, count = _completed(args[1:], (1, [], 0, False, True))
    return w.call(
        "AveragePool", args[:1], kernel_shape=_two(kernel), strides=_two(stride or kernel), pads=_two(padding) * 2,
        ceil_mode=int(ceil), count_include_pad=int(count),
    )  # fmt: skip


@emits("max_pool2d.default")
def _max_pool(w: Writer, node: fx.Node, args: Args) -> str:
    kernel, stride, padding, dilation = _completed(args[1:], (1, [], 0, 1))
    return w.call(
        "MaxPool", args[:1], kernel_shape=_two(kernel), strides=_two(stride or kernel), pads=_two(padding) * 2,
        dilations=_two(dilation),
    )  # fmt: skip


@emits("upsample_nearest2d.vec")
def _nearest(w: Writer, node: fx.Node, args: Args) -> str:
    scales = w.constant([1.0, 1.0, *args[2]], np.float32)
    return w.call(
        "Resize",
        [args[0], "", scales],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


@emits("upsample_bilinear2d.vec")
def _bilinear(w: Writer, node: fx.Node, args: Args) -> str:
    mode = "align_corners" if args[2] else "half_pixel"
    target: Any = info(node).shape[2:]
    exact = [size * factor for size, factor in zip(info(node.args[0]).shape[2:], args[3], strict=True)]
    if np.allclose(exact, target, rtol=0, atol=1e-6):  # by sizes, since 7 / 6 in float32 is less than 7 / 6
        return w.call("Resize", [args[0], "", "", w.ints(target)], axes=[2, 3], mode="linear", coordinate_transformation_mode=mode)
    scales = w.constant([1.0, 1.0, *args[3]], np.float32)
    return w.call("Resize", [args[0], "", scales], mode="linear", coordinate_transformation_mode=mode)


@emits("to.dtype")
def _to(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Cast", args[:1], to=DTYPES[info(node).dtype])
