"""Finds which dimensions of a shape grow with the batch, from the node's results at batch sizes 2 and 3 on tensors without data.

A dimension of size 2 m at batch 2 and 3 m at batch 3 is `Batch(m)`; one that stays the same is an integer. Any other one, such as
B + 1, is refused, since it would need symbolic arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hecompile.errors import CompileError
from hecompile.ir.graph import Batch, Dim, NodeInfo

if TYPE_CHECKING:
    import torch

__all__ = [
    "BATCHES",
    "at_batch",
    "dim_between",
    "dtype_name",
    "dtype_named",
    "has_batch",
    "map_argument",
    "ones_for_batch",
]

BATCHES = (2, 3)  # not 1: a dimension of size 1 broadcasts, and torch.export treats it as a constant


def dim_between(first: int, second: int) -> Dim:
    """Return the dimension that has size `first` at batch 2 and `second` at batch 3. Raises `CompileError` for
    other sizes, which do not grow in proportion to the batch."""
    multiple = second - first
    if multiple == 0:
        return first
    if multiple < 0 or first != BATCHES[0] * multiple:
        raise CompileError(f"a dimension is {first} at batch 2 and {second} at batch 3: not a multiple of the batch")
    return Batch(multiple)


def info_between(first: torch.Tensor, second: torch.Tensor) -> NodeInfo:
    """Return the record of a node, from its results at the two batch sizes. Raises `CompileError` as `dim_between` does."""
    if first.dim() != second.dim():
        raise CompileError(f"a tensor has {first.dim()} dimensions at batch 2 and {second.dim()} at batch 3")
    shape = tuple(dim_between(*pair) for pair in zip(first.shape, second.shape, strict=True))
    return NodeInfo(shape, dtype_name(first.dtype))


def has_batch(shape: Sequence[Dim]) -> bool:
    """Return whether any dimension grows with the batch."""
    return any(isinstance(dim, Batch) for dim in shape)


def ones_for_batch(shape: Sequence[Dim]) -> tuple[int, ...]:
    """Return the shape at batch size one, in integers."""
    return tuple(dim.multiple if isinstance(dim, Batch) else dim for dim in shape)


def map_argument(argument: object, change: Callable[[object], object]) -> object:
    """Return a copy of a node's argument with every leaf changed; lists, tuples and dictionaries keep their type."""
    if isinstance(argument, list | tuple):
        return type(argument)(map_argument(item, change) for item in argument)
    if isinstance(argument, dict):
        return {key: map_argument(item, change) for key, item in argument.items()}
    return change(argument)


def at_batch(argument: object, batch: int) -> object:
    """Return a copy of a node's argument with integers for this batch size in place of `Batch`."""
    return map_argument(argument, lambda leaf: leaf.multiple * batch if isinstance(leaf, Batch) else leaf)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype: `"float32"` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """Return the dtype with this name: `torch.float32` for `"float32"`."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype
