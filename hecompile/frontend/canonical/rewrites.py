"""The table of rules for every aten call that the front ends produce, one rule per overload.

A rule receives the builder and the call's arguments, and returns the node that takes the call's place. Overloads without a rule
must be in the op table already.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.builder import Builder, operator
from hecompile.ir.graph import Batch, Dim, info
from hecompile.ir.ops import OPS
from hecompile.ir.shapes import dtype_name, dtype_named, has_batch

__all__ = ["OPS_RESHAPE", "RULES", "Rule", "cast", "keep", "permute", "repeated", "reshape", "rule", "same", "together"]

Rule = Callable[..., fx.Node]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for overloads."""

    def register(function: Rule) -> Rule:
        RULES.update({f"aten.{name}": function for name in names})
        return function

    return register


_OF_GRADIENTS = ("padding_idx", "scale_grad_by_freq", "sparse", "cudnn_enabled", "cudnn_enable", "non_blocking", "copy")


def keep(name: str) -> Rule:
    """Return the rule of a call that is canonical already: its first arguments are those of the op table, and the rest must have
    default values."""
    count = len([word for word in OPS[name].parameters if not word.endswith("=")])
    schema = operator(name)._schema.arguments  # type: ignore[attr-defined]

    def emit(builder: Builder, *args: Any, **kwargs: Any) -> fx.Node:
        for argument, value in zip(schema[count:], args[count:], strict=False):
            if value != argument.default_value and argument.name not in _OF_GRADIENTS:
                text = f"{OPS[name].short} with {argument.name}={value}"
                raise CompileError(Diagnostic(f"{text} is not supported", source=builder.origin.source))
        return builder.emit(name, *args[:count], **kwargs)

    return emit


def cast(b: Builder, x: fx.Node, dtype: torch.dtype | None) -> fx.Node:
    """Return x in another dtype; x itself if it has that dtype, or for None."""
    return x if dtype is None or dtype_name(dtype) == info(x).dtype else b.emit("aten.to.dtype", x, dtype)


def same(b: Builder, x: fx.Node, *_: Any, **__: Any) -> fx.Node:
    """Leave out a call that does not change values."""
    return x


for _name in ("clone.default", "contiguous.default", "alias.default", "detach.default",
              "lift_fresh_copy.default", "_assert_tensor_metadata.default"):  # fmt: skip
    RULES[f"aten.{_name}"] = same


OPS_RESHAPE = "aten.reshape.default"


def reshape(b: Builder, x: fx.Node, sizes: Sequence[Dim]) -> fx.Node:
    """Reshape to sizes; -1 stands for the size that grows with the batch. Returns x if the shape stays."""
    if tuple(sizes) == b.shape(x):
        return x
    if str(x.target) == OPS_RESHAPE and x.op == "call_function":
        return reshape(b, x.args[0], sizes)  # type: ignore[arg-type]
    return b.emit(OPS_RESHAPE, x, list(sizes))


def together(sizes: Sequence[Dim]) -> Dim:
    """Return the size of several dimensions merged into one, of which at most one may grow with the batch."""
    count = math.prod(size if isinstance(size, int) else size.multiple for size in sizes)
    return Batch(count) if has_batch(sizes) else count


@rule("view.default", "reshape.default", "_unsafe_view.default")
def _view(b: Builder, x: fx.Node, sizes: Sequence[int]) -> fx.Node:
    target = b.emit(OPS_RESHAPE, x, list(sizes))
    return reshape(b, x, b.shape(target))


def _by_shape(name: str) -> Rule:
    def emit(b: Builder, x: fx.Node, *args: Any) -> fx.Node:
        return reshape(b, x, b.shape(b.emit(name, x, *args)))

    return emit


for _name in (
    "flatten.using_ints",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
    "unflatten.int",
):
    RULES[f"aten.{_name}"] = _by_shape(f"aten.{_name}")


@rule("permute.default")
def permute(b: Builder, x: fx.Node, dims: Sequence[int]) -> fx.Node:
    dims = [dim % len(dims) for dim in dims]
    if str(x.target) == "aten.permute.default":
        inner: Any = x.args[1]
        return permute(b, x.args[0], [inner[dim] for dim in dims])
    return x if dims == sorted(dims) else b.emit("aten.permute.default", x, dims)


@rule("transpose.int", "t.default", "swapaxes.default")
def _transpose(b: Builder, x: fx.Node, first: int = 0, second: int = 1) -> fx.Node:
    dims = list(range(len(b.shape(x))))
    if len(dims) < 2:
        return x
    dims[first], dims[second] = dims[second], dims[first]
    return permute(b, x, dims)


@rule("expand.default")
def _expand(b: Builder, x: fx.Node, sizes: Sequence[int], *_: Any) -> fx.Node:
    own = (1,) * (len(sizes) - len(b.shape(x))) + b.shape(x)
    wanted = [before if size == -1 else size for size, before in zip(sizes, own, strict=True)]
    if tuple(wanted) == b.shape(x):
        return x
    return b.emit("aten.expand.default", x, wanted)


@rule("repeat.default")
def _repeat(b: Builder, x: fx.Node, times: Sequence[int]) -> fx.Node:
    x = reshape(b, x, (1,) * (len(times) - len(b.shape(x))) + b.shape(x))
    for dim, count in enumerate(times):
        if count != 1:
            x = b.emit("aten.cat.default", [x] * count, dim)
    return x


@rule("repeat_interleave.self_int")
def repeated(b: Builder, x: fx.Node, times: int, dim: int | None = None, **_: Any) -> fx.Node:
    """Repeat every entry along `dim` several times in a row; with None, every entry of the flattened value."""
    shape = b.shape(x)
    if dim is None:
        shape, dim = (together(shape),), 0
        x = reshape(b, x, shape)
    dim %= len(shape)
    wide = reshape(b, x, (*shape[: dim + 1], 1, *shape[dim + 1 :]))
    wide = _expand(b, wide, [*(-1 for _ in shape[: dim + 1]), times, *(-1 for _ in shape[dim + 1 :])])
    size = shape[dim]
    grown = Batch(size.multiple * times) if isinstance(size, Batch) else size * times
    return reshape(b, wide, (*shape[:dim], grown, *shape[dim + 1 :]))


@rule("slice.Tensor")
def _slice(b: Builder, x: fx.Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> fx.Node:
    size = b.shape(x)[dim]
    if isinstance(size, Batch):
        if (start or 0) == 0 and (end is None or end > 1 << 31) and step == 1:
            return x
        raise CompileError(
            Diagnostic("cannot slice the batch dimension", source=b.origin.source, help="treat all elements of the batch alike")
        )
    first, last, step = slice(start, end, step).indices(size)
    if (first, last, step) == (0, size, 1):
        return x
    return b.emit("aten.slice.Tensor", x, dim % len(b.shape(x)), first, last, step)


@rule("select.int")
def _select(b: Builder, x: fx.Node, dim: int, index: int) -> fx.Node:
    dim %= len(b.shape(x))
    size = b.shape(x)[dim]
    index = index % size if isinstance(size, int) else index
    piece = _slice(b, x, dim, index, index + 1, 1)
    shape = b.shape(piece)
    return reshape(b, piece, (*shape[:dim], *shape[dim + 1 :]))


@rule("stack.default")
def _stack(b: Builder, tensors: Sequence[fx.Node], dim: int = 0) -> fx.Node:
    rank = len(b.shape(tensors[0])) + 1
    dim %= rank
    wide = [reshape(b, x, (*b.shape(x)[:dim], 1, *b.shape(x)[dim:])) for x in tensors]
    return b.emit("aten.cat.default", wide, dim)


@rule("cat.default", "concat.default")
def _cat(b: Builder, tensors: Sequence[fx.Node], dim: int = 0) -> fx.Node:
    tensors = [x for x in tensors if b.shape(x) != (0,)] or tensors[
        :1
    ]  # torch ignores empty tensors, whatever the rank of the others
    shape, rank = b.shape(tensors[0]), len(b.shape(tensors[0]))
    dim %= rank
    if len(tensors) == 1:
        return tensors[0]
    dtype = functools.reduce(torch.promote_types, (dtype_named(info(x).dtype) for x in tensors))
    tensors = [cast(b, x, dtype) for x in tensors]
    if isinstance(shape[dim], Batch) and all(
        b.shape(x) == shape for x in tensors
    ):  # the batch of the first value, then that of the second
        return reshape(b, _stack(b, tensors, dim), (*shape[:dim], together((shape[dim], len(tensors))), *shape[dim + 1 :]))
    return b.emit("aten.cat.default", tensors, dim)


@rule("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy.out", "type_as.default")
def _to(b: Builder, x: fx.Node, *args: Any, **kwargs: Any) -> fx.Node:
    dtype = next((arg for arg in (*args, kwargs.get("dtype")) if isinstance(arg, torch.dtype)), None)
    other = next((arg for arg in args if isinstance(arg, fx.Node)), None)
    name = dtype_name(dtype) if dtype else info(other).dtype if other is not None else info(x).dtype
    return x if name == info(x).dtype else b.emit("aten.to.dtype", x, getattr(torch, name))
