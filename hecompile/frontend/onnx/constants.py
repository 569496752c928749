"""Importers of ONNX operators that make constants, give sizes, or only change types."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.file import tensor_of
from hecompile.frontend.onnx.values import DTYPES, Call, Known, Value, imports, refuse_giants
from hecompile.ir.graph import concrete_shape
from hecompile.ir.shapes import BATCHES

__all__: list[str] = []  # importers register themselves


@imports("Identity")
def _same(call: Call) -> Value:
    return call.input(0)


@imports("Dropout")
def _dropout(call: Call) -> Value:
    """Leave out dropout, which does nothing unless the file is for training."""
    training = call.maybe(2)
    if training is not None and not (isinstance(training, Known) and not training.first.any() and not training.second.any()):
        raise CompileError(Diagnostic("Dropout in training mode draws random numbers", help="call model.eval() before the export"))
    return call.input(0)


@imports("Constant")
def _constant(call: Call) -> Value:
    for name, dtype in (("float", torch.float32), ("floats", torch.float32), ("int", torch.int64), ("ints", torch.int64)):
        if f"value_{name}" in call.attributes:
            tensor = torch.tensor(call.attr(f"value_{name}"), dtype=dtype)
            return Known(tensor, tensor)
    if "value" not in call.attributes:
        raise CompileError(Diagnostic("Constant must be a dense tensor of numbers", help="make it a tensor of float32"))
    tensor = tensor_of(call.attributes["value"])
    return Known(tensor, tensor)


@imports("Shape")
def _shape(call: Call) -> Value:
    shape = call.shape(call.input(0))[call.attr("start", 0) : call.attr("end")]
    first, second = (torch.tensor(concrete_shape(shape, batch), dtype=torch.int64) for batch in BATCHES)
    return Known(first, second)


@imports("Size")
def _size(call: Call) -> Value:
    shape = call.shape(call.input(0))
    first, second = (torch.tensor(concrete_shape(shape, batch), dtype=torch.int64).prod() for batch in BATCHES)
    return Known(first, second)


@imports("ConstantOfShape")
def _fill(call: Call) -> Value:
    proto = call.attr("value")
    value = torch.zeros(1) if proto is None else tensor_of(proto).flatten()

    def fill(sizes: torch.Tensor) -> torch.Tensor:
        refuse_giants(sizes.tolist())
        return torch.full(sizes.tolist(), value[0].item(), dtype=value.dtype)

    return call.both(fill, call.known(call.input(0), "the shape"))


@imports("EyeLike")
def _eye(call: Call) -> Value:
    """Return a matrix with ones on a diagonal, whose size does not grow with the batch."""
    x = call.input(0)
    height, width = (call.size(x, axis) for axis in range(2))
    refuse_giants([height, width])
    dtype = _dtype(call, call.attr("dtype")) if "dtype" in call.attributes else _type_of(call, x)
    tensor = torch.ones(height, width).triu(call.attr("k", 0)).tril(call.attr("k", 0)).to(dtype)
    return Known(tensor, tensor)


@imports("Range")
def _range(call: Call) -> Value:
    def arange(start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        refuse_giants([int((limit.item() - start.item()) / delta.item())])
        return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)

    return call.both(arange, *(call.known(call.input(index), "its range") for index in range(3)))


def _dtype(call: Call, number: int) -> torch.dtype:
    """Return a type by its number in ONNX."""
    if number not in DTYPES:
        raise CompileError(Diagnostic(f"{call.kind} to a type that is not supported", help="export the model in float32"))
    return DTYPES[number]


def _type_of(call: Call, x: Value) -> torch.dtype:
    dtype: torch.dtype = x.first.dtype if isinstance(x, Known) else call.builder.fake(x)[0].dtype
    return dtype


@imports("Cast")
def _cast(call: Call) -> Value:
    return call.cast(call.input(0), _dtype(call, call.attr("to")))


@imports("CastLike")
def _cast_like(call: Call) -> Value:
    return call.cast(call.input(0), _type_of(call, call.input(1)))


@imports("DequantizeLinear")
def _dequantize(call: Call) -> Value:
    """Return (x - zero) scale for constants: weights stored in 8 bits, with one scale for all, one per entry of an axis, or one per
    block."""
    if isinstance(call.input(0), fx.Node):
        raise CompileError(
            Diagnostic("DequantizeLinear needs a constant", help="export the model in float32; compiling quantises it")
        )
    parts = [call.known(call.input(index), "its scale") for index in range(2 + (call.maybe(2) is not None))]
    rank = len(call.shape(parts[0]))
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)

    def spread(part: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        if block:
            return part.repeat_interleave(block, axis).narrow(axis % rank, 0, shape[axis])
        return part if part.dim() == 0 else part.reshape([-1 if place == axis % rank else 1 for place in range(rank)])

    def whole(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
        centred = x.to(torch.float32) if zero is None else x.to(torch.float32) - spread(zero.to(torch.float32), x.shape)
        return centred * spread(scale, x.shape)

    return call.both(whole, *parts)
