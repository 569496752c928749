"""Rules for reading and writing entries at constant indices along several dimensions at once (see `rewrites`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.mixing import mixed
from hecompile.frontend.canonical.moves import computed_places, entries, looked_up, written
from hecompile.frontend.canonical.rewrites import cast, permute, reshape, rule
from hecompile.ir.builder import Builder, operator
from hecompile.ir.graph import Batch, Dim, info
from hecompile.ir.shapes import dtype_named, map_argument, ones_for_batch

__all__ = ["diagonal"]

Indices = Sequence[fx.Node | None]


@dataclass(frozen=True)
class Group:
    """Several dimensions of a value seen as one: the value is permuted so that they stand side by side at dimension `at`, and
    merged.

    `shape` is that of the permuted value, `order` are its dimensions as the value itself counts them.
    """

    dims: tuple[int, ...]
    at: int
    order: tuple[int, ...]
    shape: tuple[Dim, ...]

    @classmethod
    def of(cls, b: Builder, x: fx.Node, dims: Sequence[int], at: int) -> Group:
        """Return the group of `dims` in x. Raises `CompileError` if one of them grows with the batch."""
        shape = b.shape(x)
        if any(isinstance(shape[dim], Batch) for dim in dims):
            help_text = "treat all elements of the batch alike; one token of every element is x[:, place]"
            raise CompileError(Diagnostic("cannot index the batch dimension", source=b.origin.source, help=help_text))
        others = [dim for dim in range(len(shape)) if dim not in dims]
        order = (*others[:at], *dims, *others[at:])
        return cls(tuple(dims), at, order, tuple(shape[dim] for dim in order))

    @property
    def sizes(self) -> list[int]:
        return [int(str(size)) for size in self.shape[self.at : self.at + len(self.dims)]]

    def around(self, *sizes: Dim) -> tuple[Dim, ...]:
        """Return the permuted shape with other sizes in place of the group's."""
        return (*self.shape[: self.at], *sizes, *self.shape[self.at + len(self.dims) :])

    def flat(self, b: Builder, x: fx.Node) -> fx.Node:
        """Return x with the group as one dimension, at `at`."""
        return reshape(b, permute(b, x, self.order), self.around(math.prod(self.sizes)))

    def back(self, b: Builder, flat: fx.Node) -> fx.Node:
        """Undo `flat`."""
        return permute(b, reshape(b, flat, self.shape), [self.order.index(dim) for dim in range(len(self.order))])

    def places(self, per_dim: Sequence[Tensor]) -> Tensor:
        """Return indices into the merged dimension, from one tensor of indices per dimension; negative ones count from the end."""
        flat = torch.zeros((), dtype=torch.int64)
        for size, line in zip(self.sizes, per_dim, strict=True):
            flat = flat * size + line % size
        return flat


def _constant_places(b: Builder, indices: Indices) -> tuple[list[int], list[Tensor]] | None:
    """Return the dimensions that are indexed and the indices for each, a mask as the indices where it holds; None if some are
    computed."""
    dims, tensors, dim = list[int](), list[Tensor](), 0
    for index in indices:
        known = None if index is None else b.value(index)
        if index is not None and known is None:
            return None
        lines = [] if known is None else list(known.nonzero(as_tuple=True)) if known.dtype is torch.bool else [known.long()]
        dims += range(dim, dim + len(lines))
        tensors += lines
        dim += len(lines) or 1
    return dims, tensors


def _front(dims: Sequence[int]) -> int:
    """Return where torch puts the indexed dimensions in the result: in their place if they are neighbours, else in front."""
    return dims[0] if list(dims) == list(range(dims[0], dims[0] + len(dims))) else 0


@rule("index.Tensor")
def _index(b: Builder, x: fx.Node, indices: Indices) -> fx.Node:
    """Rewrite x[.., indices, ..]."""
    constant = _constant_places(b, indices)
    if constant is None:
        places = indices[0] if len(indices) == 1 else None
        if b.value(x) is None or places is None or info(places).dtype == "bool":
            raise CompileError(computed_places(b))
        return looked_up(b, x, places)
    dims, tensors = constant
    if not dims:
        return x
    group = Group.of(b, x, dims, _front(dims))
    flat = group.places(tensors)
    return reshape(b, entries(b, group.flat(b, x), group.at, flat.flatten().tolist()), group.around(*flat.shape))


@rule("index_put.default", "_unsafe_index_put.default")
def _index_put(b: Builder, x: fx.Node, indices: Indices, values: fx.Node, accumulate: bool = False, *_: Any) -> fx.Node:
    """Rewrite x[.., indices, ..] = values, or adding the values there."""
    constant = _constant_places(b, indices)
    if constant is None:
        return _where_masked(b, x, indices, values, accumulate)
    dims, tensors = constant
    group = Group.of(b, x, dims, _front(dims))
    return _put(b, x, group, group.places(tensors), values, accumulate)


def _put(b: Builder, x: fx.Node, group: Group, places: Tensor, values: fx.Node, accumulate: bool) -> fx.Node:
    """Return x with values, broadcast to the indices, written at indices of a group."""
    values, count = cast(b, values, dtype_named(info(x).dtype)), math.prod(group.sizes)
    if math.prod(size if isinstance(size, int) else 2 for size in b.shape(values)) == 1 and not accumulate:
        mask = torch.zeros(count, dtype=torch.bool)
        mask[places.flatten()] = True
        ones = [1] * len(group.shape)
        ones[group.at : group.at + len(group.dims)] = group.sizes
        turned = mask.reshape(ones).permute([group.order.index(dim) for dim in range(len(ones))])
        return b.emit("aten.where.self", b.constant(turned.contiguous(), "mask"), reshape(b, values, ()), x)
    flat = group.flat(b, x)
    part = reshape(b, entries(b, flat, group.at, places.flatten().tolist()), group.around(*places.shape))
    if b.shape(values) != b.shape(part):
        values = b.emit("aten.expand_as.default", values, part)
    values = reshape(b, values, group.around(places.numel()))
    if not accumulate:
        return group.back(b, written(b, flat, group.at, places.flatten().tolist(), values))
    matrix = torch.zeros(count, places.numel())
    matrix[places.flatten(), torch.arange(places.numel())] = 1
    return group.back(b, b.emit("aten.add.Tensor", flat, mixed(b, values, group.at, matrix)))


def _where_masked(b: Builder, x: fx.Node, indices: Indices, values: fx.Node, accumulate: bool) -> fx.Node:
    """Rewrite x[mask] = number for a computed mask. Raises `CompileError` for other writes to computed indices."""
    mask = indices[0]
    if len(indices) != 1 or mask is None or info(mask).dtype != "bool" or accumulate or b.shape(values) not in ((), (1,)):
        raise CompileError(computed_places(b))
    mask = reshape(b, mask, (*b.shape(mask), *[1] * (len(b.shape(x)) - len(b.shape(mask)))))
    values = cast(b, reshape(b, values, ()), dtype_named(info(x).dtype))
    return b.emit("aten.where.self", mask, values, x)


def _pattern(b: Builder, x: fx.Node, dim: int, index: fx.Node) -> tuple[Group, Tensor]:
    """Return, for a constant index of `gather` along `dim`, the dimensions of x in which the index differs, and the indices there.

    An index as large as the batch is a constant that was expanded. Raises `CompileError` for computed indices.
    """
    shape, own = b.shape(index), b.shape(x)
    known = _but_for_the_batch(b, index)
    if known is None:
        raise CompileError(computed_places(b))
    rank = len(shape)
    known = known.reshape([1] * (rank - known.dim()) + list(known.shape))
    known = known.expand([-1 if isinstance(size, Batch) else size for size in shape])
    alike = [place for place in range(rank) if place != dim and bool((known == known.narrow(place, 0, 1)).all())]
    dims = [place for place in range(rank) if place not in alike or shape[place] != own[place]]
    for place in set(range(rank)) - set(dims):
        known = known.narrow(place, 0, 1)
    lines = [known if place == dim else _ramp(known, place) for place in dims]
    group = Group.of(b, x, dims, dims[0])
    return group, group.places(lines).expand(known.shape).reshape([known.shape[place] for place in dims])


def _but_for_the_batch(b: Builder, node: fx.Node) -> Tensor | None:
    """Return the value at batch one of a node that depends on constants and on the batch size only; None for other nodes."""
    known = b.value(node)
    if known is not None or node.op != "call_function" or not info(node).dtype.startswith("int"):
        return known
    if str(node.target) == "aten.expand_as.default":
        inner = _but_for_the_batch(b, node.args[0])  # type: ignore[arg-type]
        return None if inner is None else inner.expand(ones_for_batch(b.shape(node)))
    values = {argument: _but_for_the_batch(b, argument) for argument in node.all_input_nodes}
    if any(value is None for value in values.values()):
        return None
    args: Any = map_argument(node.args, lambda leaf: values[leaf] if isinstance(leaf, fx.Node) else leaf)
    value: Tensor = operator(str(node.target))(*args, **node.kwargs)
    return value


def _ramp(like: Tensor, dim: int) -> Tensor:
    """Return the position of every entry along one dimension, with the rank of `like`."""
    return torch.arange(like.shape[dim]).reshape([-1 if place == dim else 1 for place in range(like.dim())])


def _cut_to(b: Builder, x: fx.Node, shape: Sequence[Dim]) -> fx.Node:
    """Return the first entries of x, as many as the shape states."""
    for place, (size, own) in enumerate(zip(shape, b.shape(x), strict=True)):
        if size != own:
            x = b.emit("aten.slice.Tensor", x, place, 0, size, 1)
    return x


@rule("gather.default")
def _gather(b: Builder, x: fx.Node, dim: int, index: fx.Node, *_: Any, **__: Any) -> fx.Node:
    """Rewrite gather: every entry of the result is one along `dim`, by an index of the result's shape."""
    group, places = _pattern(b, x, dim % len(b.shape(x)), index)
    turned = reshape(b, entries(b, group.flat(b, x), group.at, places.flatten().tolist()), group.around(*places.shape))
    return permute(b, turned, [group.order.index(place) for place in range(len(group.order))])


@rule("scatter.src", "scatter.value")
def _scatter(b: Builder, x: fx.Node, dim: int, index: fx.Node, values: Any) -> fx.Node:
    """Return x with values written along `dim`, each where the index says."""
    group, places = _pattern(b, x, dim % len(b.shape(x)), index)
    if not isinstance(values, fx.Node):
        return _put(b, x, group, places, b.constant(torch.tensor(values), "value"), False)
    return _put(b, x, group, places, permute(b, _cut_to(b, values, b.shape(index)), group.order), False)


@rule("scatter_add.default")
def _scatter_add(b: Builder, x: fx.Node, dim: int, index: fx.Node, values: fx.Node) -> fx.Node:
    group, places = _pattern(b, x, dim % len(b.shape(x)), index)
    return _put(b, x, group, places, permute(b, _cut_to(b, values, b.shape(index)), group.order), True)


@rule("diagonal.default")
def diagonal(b: Builder, x: fx.Node, offset: int = 0, first: int = 0, second: int = 1) -> fx.Node:
    """Return the entries [i, i + offset] as the last dimension."""
    group, places = _on_diagonal(b, x, offset, first, second)
    return entries(b, group.flat(b, x), group.at, places.tolist())


@rule("diagonal_scatter.default")
def _diagonal_scatter(b: Builder, x: fx.Node, part: fx.Node, offset: int = 0, first: int = 0, second: int = 1) -> fx.Node:
    group, places = _on_diagonal(b, x, offset, first, second)
    return _put(b, x, group, places, part, False)


def _on_diagonal(b: Builder, x: fx.Node, offset: int, first: int, second: int) -> tuple[Group, Tensor]:
    rank = len(b.shape(x))
    group = Group.of(b, x, [first % rank, second % rank], rank - 2)
    rows, columns = group.sizes
    places = torch.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    return group, places


@rule("unfold.default")
def _unfold(b: Builder, x: fx.Node, dim: int, size: int, step: int) -> fx.Node:
    """Return windows of `size` entries along `dim`, one every `step` entries; the entries of a window become the last dimension."""
    shape, rank = b.shape(x), len(b.shape(x))
    dim %= rank
    places = torch.arange(0 if isinstance(shape[dim], Batch) else int(str(shape[dim]))).unfold(0, size, step)
    windows = reshape(b, entries(b, x, dim, places.flatten().tolist()), (*shape[:dim], *places.shape, *shape[dim + 1 :]))
    return permute(b, windows, [place for place in range(rank + 1) if place != dim + 1] + [dim + 1])
