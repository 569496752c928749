"""Rewrites einsum: operands are multiplied two at a time, each time by one matmul or one broadcast product."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_letters

from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.linear import matmul
from hecompile.frontend.canonical.places import diagonal
from hecompile.frontend.canonical.rewrites import RULES, permute, reshape, rule, together
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim

__all__: list[str] = []

Sizes = Mapping[str, Dim]


@dataclass(frozen=True)
class Term:
    """An operand, and the index letter of each of its dimensions."""

    node: fx.Node
    names: str


@rule("outer.default")
def _outer(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", reshape(b, x, (*b.shape(x), 1)), y)


@rule("einsum.default")
def _einsum(b: Builder, equation: str, operands: Sequence[fx.Node], path: object = None) -> fx.Node:
    """Multiply operands two at a time, the pair with the smallest product first; an index that no other operand has is summed at
    once.

    Raises:
        CompileError: if the sum goes over the batch.
    """
    names, output = _indices(equation, [len(b.shape(x)) for x in operands])
    terms = [_single(b, Term(x, own)) for x, own in zip(operands, names, strict=True)]
    sizes = _sizes(b, terms)
    terms = [_without_ones(b, term, sizes) for term in terms]
    terms = [_summed(b, term, {*output, *_others(terms, term)}, equation) for term in terms]
    while len(terms) > 1:
        left, right = min(combinations(terms, 2), key=lambda pair: _cost(pair, terms, output, sizes))
        rest = [term for term in terms if term is not left and term is not right]
        kept = {*output, *(name for term in rest for name in term.names)}
        terms = [_product(b, left, right, kept, sizes, equation), *rest]
    (term,) = terms
    return permute(b, term.node, [term.names.index(name) for name in output])


def _indices(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the index letters of every operand and of the result.

    Dimensions that '...' stands for get unused letters, the last ones the same in all operands. Without '->' the result has these
    first, then in alphabetical order the letters that occur once.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    given = inputs.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    most = max([rank - len(own.replace("...", "")) for own, rank in zip(given, ranks, strict=True) if "..." in own], default=0)
    dots = "".join(free[:most])
    names = [
        own.replace("...", dots[most - (rank - len(own.replace("...", ""))) :] if "..." in own else "")
        for own, rank in zip(given, ranks, strict=True)
    ]
    if not arrow:
        once = [letter for letter, count in Counter("".join(given).replace(".", "")).items() if count == 1]
        output = f"...{''.join(sorted(once))}" if dots else "".join(sorted(once))
    return names, output.replace("...", dots)


def _single(b: Builder, term: Term) -> Term:
    """Return the term with every index once: where one occurs twice, the diagonal is taken."""
    node, names = term.node, term.names
    for name, count in Counter(names).items():
        for _ in range(count - 1):
            first = names.index(name)
            second = names.index(name, first + 1)
            node = diagonal(b, node, 0, first, second)
            names = names[:first] + names[first + 1 : second] + names[second + 1 :] + name
    return Term(node, names)


def _sizes(b: Builder, terms: Sequence[Term]) -> dict[str, Dim]:
    """Return the size of every index. An operand may have size one in its place."""
    sizes: dict[str, Dim] = {}
    for term in terms:
        for name, size in zip(term.names, b.shape(term.node), strict=True):
            sizes[name] = size if sizes.get(name, 1) == 1 else sizes[name]
    return sizes


def _without_ones(b: Builder, term: Term, sizes: Sizes) -> Term:
    """Return the term without dimensions of size one that are larger in other operands, over which they are broadcast."""
    shape = b.shape(term.node)
    kept = [place for place, name in enumerate(term.names) if not (shape[place] == 1 and sizes[name] != 1)]
    return Term(reshape(b, term.node, tuple(shape[place] for place in kept)), "".join(term.names[place] for place in kept))


def _others(terms: Sequence[Term], term: Term) -> set[str]:
    return {name for other in terms if other is not term for name in other.names}


def _summed(b: Builder, term: Term, kept: set[str], equation: str) -> Term:
    """Return the term summed over the indices that neither the result nor another operand has."""
    dims = [place for place, name in enumerate(term.names) if name not in kept]
    if not dims:
        return term
    shape = b.shape(term.node)
    if any(isinstance(shape[dim], Batch) for dim in dims):
        raise CompileError(_over_the_batch(b, equation))
    names = "".join(name for place, name in enumerate(term.names) if place not in dims)
    return Term(b.emit("aten.sum.dim_IntList", term.node, dims, False), names)


def _over_the_batch(b: Builder, equation: str) -> Diagnostic:
    help_text = "keep the batch among the indices of the result"
    return Diagnostic(f"einsum '{equation}' sums over the batch dimension", source=b.origin.source, help=help_text)


def _cost(pair: tuple[Term, Term], terms: Sequence[Term], output: str, sizes: Sizes) -> int:
    """Return how many entries the product of two terms has."""
    left, right = pair
    kept = {*output, *(name for term in terms if term is not left and term is not right for name in term.names)}
    lines = [sizes[name] for name in {*left.names, *right.names} & kept]
    return math.prod(2 * size.multiple if isinstance(size, Batch) else size for size in lines)


def _product(b: Builder, left: Term, right: Term, kept: set[str], sizes: Sizes, equation: str) -> Term:
    """Return the product of two terms, summed over the indices that they share and nothing else has."""
    both = left.names + "".join(name for name in right.names if name not in left.names)
    if set(both) <= kept:
        sides = (_broadcast(b, term, both) for term in (left, right))
        return Term(RULES["aten.mul.Tensor"](b, *sides), both)
    if any(isinstance(sizes[name], Batch) for name in right.names if name not in left.names):
        left, right = right, left
    summed = [name for name in left.names if name in right.names and name not in kept]
    if any(isinstance(sizes[name], Batch) for name in summed):
        raise CompileError(_over_the_batch(b, equation))
    shared = [name for name in left.names if name in right.names and name in kept]
    rows = [name for name in left.names if name not in right.names]
    columns = [name for name in right.names if name not in left.names]
    tall = rows if not shared else [rows]  # without a shared index this is a linear layer, whose rows may be several dimensions
    turned = _arranged(b, left, sizes, [*shared, *tall, summed])
    product = matmul(b, turned, _arranged(b, right, sizes, [*shared, summed, columns]))
    order = [*shared, *rows, *columns]
    return Term(reshape(b, product, tuple(sizes[name] for name in order)), "".join(order))


def _arranged(b: Builder, term: Term, sizes: Sizes, groups: Sequence[str | list[str]]) -> fx.Node:
    """Return the operand with one dimension per group of indices, in that order."""
    turned = permute(b, term.node, [term.names.index(name) for group in groups for name in group])
    return reshape(b, turned, tuple(together([sizes[name] for name in group]) for group in groups))


def _broadcast(b: Builder, term: Term, names: str) -> fx.Node:
    """Return the operand with one dimension per index, of size one where it lacks the index."""
    inner = [name for name in names if name in term.names]
    turned = permute(b, term.node, [term.names.index(name) for name in inner])
    sizes = dict(zip(inner, b.shape(turned), strict=True))
    return reshape(b, turned, tuple(sizes.get(name, 1) for name in names))
