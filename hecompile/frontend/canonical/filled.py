"""Rules for tensors that are made from numbers, or filled with one (see `rewrites`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.rewrites import RULES, Rule, cast, reshape, rule
from hecompile.ir.builder import Builder, operator
from hecompile.ir.graph import info
from hecompile.ir.shapes import has_batch

__all__ = ["FILLS", "full"]

# the number that a call fills its result with; None where an argument gives it. `empty`, whose contents nobody may use, gets zeros
FILLS: dict[str, float | None] = {"zeros": 0.0, "ones": 1.0, "full": None, "empty": 0.0}


def full(sizes: Sequence[int], fill: Any, dtype: torch.dtype | None) -> torch.Tensor:
    """Return a tensor filled with a number. Without a dtype, integers give int64 and other numbers float32, as in torch."""
    return torch.full(list(sizes), fill, dtype=dtype)


def _folded(name: str) -> Rule:
    """Return the rule of a call that makes a tensor from numbers only, which becomes a constant."""

    def emit(b: Builder, *args: Any, **kwargs: Any) -> fx.Node:
        return b.constant(operator(name)(*args, **kwargs), name.split(".")[1])

    return emit


for _name in ("arange.default", "arange.start", "arange.start_step", "full.default", "ones.default", "zeros.default", "eye.default",
              "eye.m", "linspace.default", "logspace.default", "scalar_tensor.default", "tril_indices.default",
              "triu_indices.default"):  # fmt: skip
    RULES[f"aten.{_name}"] = _folded(f"aten.{_name}")


@rule("empty.memory_format", "empty_permuted.default", "empty_strided.default")
def _empty(b: Builder, sizes: Sequence[int], *_: Any, dtype: torch.dtype | None = None, **__: Any) -> fx.Node:
    return b.constant(torch.zeros(list(sizes), dtype=dtype), "empty")


@rule("new_empty_strided.default")
def _new_empty(b: Builder, x: fx.Node, sizes: Sequence[int], _strides: Any, **kwargs: Any) -> fx.Node:
    return _filled(0)(b, x, sizes, **kwargs)


def _filled(value: float | None) -> Rule:
    """Return the rule for new_zeros(x, sizes) and the like, which read only the dtype of x."""

    def emit(b: Builder, x: fx.Node, sizes: Sequence[int], fill: Any = value, **kwargs: Any) -> fx.Node:
        return b.constant(full(sizes, fill, kwargs.get("dtype") or getattr(torch, info(x).dtype)), "full")

    return emit


def _filled_like(value: float | None) -> Rule:
    """Return the rule for zeros_like(x) and the like, which read only the shape and the dtype of x."""

    def emit(b: Builder, x: fx.Node, fill: Any = value, **kwargs: Any) -> fx.Node:
        dtype = kwargs.get("dtype") or getattr(torch, info(x).dtype)
        shape = b.shape(x)
        if not has_batch(shape):
            return b.constant(full(shape, fill, dtype), "full")  # type: ignore[arg-type]
        return b.emit("aten.expand_as.default", b.constant(full([1] * len(shape), fill, dtype), "full"), x)

    return emit


for _name, _fill in FILLS.items():
    RULES[f"aten.new_{_name}.default"], RULES[f"aten.{_name}_like.default"] = _filled(_fill), _filled_like(_fill)


@rule("fill.Scalar", "fill.Tensor")
def _fill_with(b: Builder, x: fx.Node, value: Any) -> fx.Node:
    """Rewrite x[...] = value."""
    if not isinstance(value, fx.Node):
        return _filled_like(None)(b, x, value)
    if b.shape(value) not in ((), (1,)):
        raise CompileError(
            Diagnostic("cannot fill a tensor with more than one number", source=b.origin.source, help="fill it with one number")
        )
    value = reshape(b, cast(b, value, getattr(torch, info(x).dtype)), (1,) * len(b.shape(x)))
    return b.emit("aten.expand_as.default", value, x)


@rule("zero.default")
def _zero(b: Builder, x: fx.Node) -> fx.Node:
    return _filled_like(0)(b, x)
