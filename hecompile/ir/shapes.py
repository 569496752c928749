"""Shapes with the batch in them, found by running every node at two batch sizes on tensors without data.

A dimension that grows from 2 m to 3 m between the batches 2 and 3 is `Batch(m)`; one that stays is an integer. Anything else
(a size of B + 1, say) is refused: it could not be written without symbolic arithmetic.
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
    "TRAIN_STEPS",
    "at_batch",
    "dim_between",
    "dtype_name",
    "dtype_named",
    "has_batch",
    "map_argument",
    "ones_for_batch",
]

TRAIN_STEPS = 1000  # timesteps lie in [0, 1000): tables over timestep bins divide that
BATCHES = (2, 3)  # not 1: a dimension of one broadcasts, and torch.export specialises on it


def dim_between(first: int, second: int) -> Dim:
    """The dimension that is `first` at batch 2 and `second` at batch 3. Raises `CompileError`."""
    multiple = second - first
    if multiple == 0:
        return first
    if multiple < 0 or first != BATCHES[0] * multiple:
        raise CompileError(f"a dimension is {first} at batch 2 and {second} at batch 3: not a multiple of the batch")
    return Batch(multiple)


def info_between(first: torch.Tensor, second: torch.Tensor) -> NodeInfo:
    """The record of a value from its two data-free tensors."""
    if first.dim() != second.dim():
        raise CompileError(f"a tensor has {first.dim()} dimensions at batch 2 and {second.dim()} at batch 3")
    shape = tuple(dim_between(*pair) for pair in zip(first.shape, second.shape, strict=True))
    return NodeInfo(shape, dtype_name(first.dtype))


def has_batch(shape: Sequence[Dim]) -> bool:
    """Whether a shape grows with the batch."""
    return any(isinstance(dim, Batch) for dim in shape)


def ones_for_batch(shape: Sequence[Dim]) -> tuple[int, ...]:
    """The shape at batch one."""
    return tuple(dim.multiple if isinstance(dim, Batch) else dim for dim in shape)


def map_argument(argument: object, change: Callable[[object], object]) -> object:
    """An fx argument with every leaf changed; lists and tuples become lists and tuples again."""
    if isinstance(argument, list | tuple):
        return type(argument)(map_argument(item, change) for item in argument)
    if isinstance(argument, dict):
        return {key: map_argument(item, change) for key, item in argument.items()}
    return change(argument)


def at_batch(argument: object, batch: int) -> object:
    """An fx argument with its `Batch` leaves as integers."""
    return map_argument(argument, lambda leaf: leaf.multiple * batch if isinstance(leaf, Batch) else leaf)


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float32` -> `"float32"`."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """`"float32"` -> `torch.float32`."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype
