"""Multiplies a value by a constant matrix along one dimension: running sums, averages and interpolation are of this form (see
`rewrites`)."""

from __future__ import annotations

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.moves import entries
from hecompile.frontend.canonical.rewrites import cast, permute, reshape, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, info
from hecompile.ir.shapes import dtype_named

__all__ = ["mixed"]


def mixed(b: Builder, x: fx.Node, dim: int, matrix: torch.Tensor) -> fx.Node:
    """Return the value whose entries along `dim` are `matrix` (T, S) times those of x (.., S, ..).

    It is computed by whoever computes x, not as a layer of the server. A matrix that only selects entries becomes `entries`. Raises
    `CompileError` along the batch.
    """
    shape, rank = b.shape(x), len(b.shape(x))
    dim %= rank
    if isinstance(shape[dim], Batch):
        raise CompileError(
            Diagnostic("cannot sum over the batch dimension", source=b.origin.source, help="treat all elements of the batch alike")
        )
    largest, places = matrix.max(dim=1)
    if bool((matrix.count_nonzero(dim=1) == 1).all() and (largest == 1).all()):
        return entries(b, x, dim, places.tolist())
    constant = b.constant(matrix.to(dtype_named(info(x).dtype)).contiguous(), "matrix")
    if rank == 1:
        return reshape(b, b.emit("aten.matmul.default", constant, reshape(b, x, (*shape, 1))), (matrix.shape[0],))
    order = list(range(rank))
    other = rank - 2 if dim == rank - 1 else dim  # the dimension that is swapped with the last but one
    order[rank - 2], order[other] = order[other], order[rank - 2]
    if dim == rank - 1:
        order[rank - 2], order[rank - 1] = dim, rank - 2
    back = [order.index(place) for place in range(rank)]
    return permute(b, b.emit("aten.matmul.default", constant, permute(b, x, order)), back)


@rule("cumsum.default")
def _cumsum(b: Builder, x: fx.Node, dim: int, *, dtype: torch.dtype | None = None) -> fx.Node:
    """Rewrite a running sum as a matrix with ones on and below its diagonal."""
    x = cast(b, x, dtype if dtype is not None else None if info(x).dtype.startswith("float") else torch.int64)
    size = b.shape(x)[dim]
    if isinstance(size, Batch):
        raise CompileError(
            Diagnostic(
                "cannot compute a running sum over the batch dimension",
                source=b.origin.source,
                help="treat all elements of the batch alike",
            )
        )
    return mixed(b, x, dim, torch.ones(size, size).tril())
