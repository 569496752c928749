"""Sums of products over named indices, as one matmul or one broadcast product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.frontend.linear import matmul
from hecompile.frontend.rewrites import permute, reshape, rule
from hecompile.ir.graph import Batch, Dim

__all__: list[str] = []

Sizes = Mapping[str, Dim]


@rule("outer.default")
def _outer(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", reshape(b, x, (*b.shape(x), 1)), y)


@rule("einsum.default")
def _einsum(b: Builder, equation: str, operands: Sequence[fx.Node], path: object = None) -> fx.Node:
    """Two operands without repeated indices; each index is in the result or in both operands."""
    equation = equation.replace(" ", "")
    terms, _, output = equation.partition("->")
    names = terms.split(",")
    plain = len(names) == 2 and "." not in equation and output and all(len(set(name)) == len(name) for name in names)
    if not plain or set(output) - set(terms):
        raise CompileError(Diagnostic(f"einsum '{equation}'", source=b.origin.source, help="write it as matmul and permute"))
    (left, right), (x, y) = names, operands
    if (set(left) ^ set(right)) - set(output):
        raise CompileError(Diagnostic(f"einsum '{equation}' sums over one operand alone", source=b.origin.source))
    sizes = dict(zip(left, b.shape(x), strict=True)) | dict(zip(right, b.shape(y), strict=True))
    if set(left + right) == set(output):
        return b.emit("aten.mul.Tensor", _broadcast(b, x, left, output), _broadcast(b, y, right, output))
    if any(isinstance(sizes[index], Batch) for index in right if index not in left):
        (left, x), (right, y) = (right, y), (left, x)
    summed = [index for index in left if index in right and index not in output]
    shared = [index for index in output if index in left and index in right]
    rows = [index for index in left if index not in right]
    columns = [index for index in right if index not in left]
    tall = rows if not shared else [rows]  # without a shared index the rows need not be one dimension: it is a linear layer
    turned = _arranged(b, x, left, sizes, [*shared, *tall, summed])
    product = matmul(b, turned, _arranged(b, y, right, sizes, [*shared, summed, columns]))
    order = [*shared, *rows, *columns]
    product = reshape(b, product, tuple(sizes[index] for index in order))
    return permute(b, product, [order.index(index) for index in output])


def _arranged(b: Builder, x: fx.Node, own: str, sizes: Sizes, groups: Sequence[str | list[str]]) -> fx.Node:
    """The operand with one dimension per group of indices, in that order."""
    flat = [index for group in groups for index in group]
    turned = permute(b, x, [own.index(index) for index in flat])
    return reshape(b, turned, tuple(_product([sizes[index] for index in group]) for group in groups))


def _product(sizes: Sequence[Dim]) -> Dim:
    """The size of several dimensions in one, of which one may grow with the batch."""
    count = math.prod(size if isinstance(size, int) else size.multiple for size in sizes)
    return Batch(count) if any(isinstance(size, Batch) for size in sizes) else count


def _broadcast(b: Builder, x: fx.Node, own: str, output: str) -> fx.Node:
    """The operand with the dimensions of the output, ones where it has none."""
    inner = [index for index in output if index in own]
    turned = permute(b, x, [own.index(index) for index in inner])
    sizes = dict(zip(inner, b.shape(turned), strict=True))
    return reshape(b, turned, tuple(sizes.get(index, 1) for index in output))
