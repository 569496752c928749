"""Values of an ONNX graph while it is read, and the interface of the importers of its operators.

A value is a node of the new graph, or `Known`: two tensors that the file alone determines, one per batch size of
`hecompile.ir.shapes.BATCHES`. Weights are known and equal; computed shapes are known and may differ. Operators on known values are
evaluated at once, so that sizes become integers or multiples of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical import moves
from hecompile.frontend.canonical.sized import emit_sized, expand_to
from hecompile.ir.builder import Builder, has_batch_size, operator
from hecompile.ir.graph import Batch, Dim, info
from hecompile.ir.shapes import BATCHES, at_batch, dim_between, dtype_name, map_argument

__all__ = ["DTYPES", "IMPORTERS", "Call", "Importer", "Known", "Value", "graph_dtype", "imports", "refuse_giants", "times"]

# ONNX's numbers for the types that are supported; half precision becomes float32
DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float32, 11: torch.float64, 16: torch.float32,
}  # fmt: skip
_IN_GRAPHS = {torch.float64: torch.float32, torch.uint8: torch.int32, torch.int8: torch.int32, torch.int16: torch.int32}
_SMALL, _GIANT = 1 << 14, 1 << 28  # numbers of elements: up to _SMALL the size is not checked, from _GIANT on a tensor is refused


def graph_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type that represents this one in a graph: float32 for all floats, and no integers shorter than 32 bits."""
    return _IN_GRAPHS.get(dtype, dtype)


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that follows from the ONNX file alone, such as a weight or a shape, as computed at two batch sizes.

    `first` and `second` are its values at those sizes. Where they differ, the tensor depends on the batch.
    """

    first: torch.Tensor
    second: torch.Tensor
    hint: str = "constant"

    @property
    def fixed(self) -> bool:
        """Whether the tensor has the same shape and values at both batch sizes."""
        return self.first is self.second or (self.first.shape == self.second.shape and bool(torch.equal(self.first, self.second)))


Value = fx.Node | Known
Importer = Callable[["Call"], "Value | Sequence[Value]"]
IMPORTERS: dict[str, Importer] = {}


def imports(*kinds: str) -> Callable[[Importer], Importer]:
    """Register the importer of ONNX operators."""

    def register(function: Importer) -> Importer:
        IMPORTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def times(*dims: Dim) -> Dim:
    """Return the product of sizes, of which at most one may grow with the batch."""
    multiple, batches = 1, 0
    for dim in dims:
        multiple *= dim.multiple if isinstance(dim, Batch) else dim
        batches += isinstance(dim, Batch)
    if batches > 1:
        raise CompileError("a size grows with the square of the batch")
    return Batch(multiple) if batches else multiple


def refuse_giants(sizes: Sequence[int]) -> None:
    """Raise `CompileError` for a tensor that is larger than any model's, so that a small file cannot fill the memory."""
    count = 1
    for size in sizes:
        count *= int(size)
    if count > _GIANT:
        raise CompileError(f"a tensor of {count} elements is too large")


@dataclass(frozen=True)
class Call:
    """One ONNX node with its inputs. Optional inputs that are absent are None."""

    builder: Builder
    kind: str
    opset: int
    given: tuple[Value | None, ...]
    attributes: dict[str, Any]
    outputs: int

    def input(self, index: int) -> Value:
        """Return a required input."""
        value = self.maybe(index)
        if value is None:
            raise CompileError(f"{self.kind} needs input {index}")
        return value

    def maybe(self, index: int) -> Value | None:
        return self.given[index] if index < len(self.given) else None

    def attr(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is text."""
        value = self.attr(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def shape(self, value: Value) -> tuple[Dim, ...]:
        if isinstance(value, fx.Node):
            return self.builder.shape(value)
        if value.first.dim() != value.second.dim():
            raise CompileError("the number of dimensions depends on the batch")
        return tuple(dim_between(*pair) for pair in zip(value.first.shape, value.second.shape, strict=True))

    def axis(self, value: Value, axis: int) -> int:
        """Return an axis counted from the front. Raises `CompileError` if the value has no such axis."""
        rank = len(self.shape(value))
        if not -rank <= axis < rank:
            raise CompileError(f"{self.kind} along axis {axis}: the tensor has {rank} dimensions")
        return axis % rank

    def size(self, value: Value, axis: int) -> int:
        """Return a size, which must not grow with the batch."""
        size = self.shape(value)[axis]
        if isinstance(size, Batch):
            raise CompileError(
                Diagnostic(f"{self.kind} along the batch dimension is not supported", help="treat all elements of the batch alike")
            )
        return size

    def type_kind(self, value: Value) -> str:
        """Return the kind of a value's numbers: `float`, `integer` or `bool`."""
        name = dtype_name(value.first.dtype) if isinstance(value, Known) else info(value).dtype
        return "bool" if name == "bool" else "float" if "float" in name else "integer"

    def floating(self, value: Value) -> bool:
        return self.type_kind(value) == "float"

    def known(self, value: Value | None, what: str) -> Known:
        """Return a value that must not depend on the model's inputs."""
        if not isinstance(value, Known):
            raise CompileError(Diagnostic(f"{self.kind}: {what} depends on the values of an input", help="make it a constant"))
        return value

    def sizes(self, value: Value | None, what: str = "a size") -> list[Dim]:
        """Return a list of sizes: integers, or multiples of the batch."""
        pair = self.known(value, what)
        return [dim_between(int(one), int(two)) for one, two in zip(pair.first.flatten(), pair.second.flatten(), strict=True)]

    def ints(self, value: Value | None, what: str = "a parameter") -> list[int]:
        """Return a list of integers that are the same for every batch size."""
        pair = self.known(value, what)
        if not pair.fixed:
            raise CompileError(f"{self.kind}: {what} depends on the batch")
        return [int(item) for item in pair.first.flatten()]

    def number(self, value: Value | None) -> float | int | None:
        """Return a single number that is the same for every batch size; None for anything else."""
        if not isinstance(value, Known) or value.first.numel() != 1 or value.first.dtype == torch.bool or not value.fixed:
            return None
        number = value.first.item()
        return number if value.first.is_floating_point() else int(number)

    def axes(self, index: int) -> list[int] | None:
        """Return axes from the attribute, or from an input as in later opsets."""
        listed = self.attr("axes")
        if listed is None and self.maybe(index) is not None:
            listed = self.ints(self.maybe(index), "the axes")
        return None if listed is None else [int(axis) for axis in listed]

    def both(self, function: Callable[..., torch.Tensor], *values: Known) -> Known:
        """Apply a function to known values, at both batch sizes."""
        first = function(*(value.first for value in values))
        fixed = all(value.first is value.second for value in values)
        return Known(first, first if fixed else function(*(value.second for value in values)))

    def node(self, value: Value) -> fx.Node:
        """Return a known value as a node: a constant, or one that is repeated over the batch."""
        if isinstance(value, fx.Node):
            return value
        dtype = graph_dtype(value.first.dtype)
        if value.fixed:
            return self.builder.constant(value.first.to(dtype), value.hint)
        shape = self.shape(value)
        ones = [1 if isinstance(dim, Batch) else dim for dim in shape]
        piece = value.first[tuple(slice(0, size) for size in ones)].contiguous()
        if not all(bool(torch.equal(piece.expand(side.shape), side)) for side in (value.first, value.second)):
            raise CompileError(Diagnostic(f"{self.kind}: a tensor whose numbers depend on the batch size is not supported"))
        return expand_to(self.builder, self.builder.constant(piece.to(dtype), value.hint), shape)

    def emit(self, name: str, *args: Any, **kwargs: Any) -> Value:
        """Call an aten operator: it is evaluated if all tensors are known, and added to the graph otherwise."""
        values = _values(args)
        if not any(isinstance(value, fx.Node) for value in values):
            return self._evaluate(name, args, kwargs, [value for value in values if isinstance(value, Known)])
        resolved = [map_argument(arg, lambda leaf: self.node(leaf) if isinstance(leaf, Known) else leaf) for arg in args]
        if has_batch_size(resolved):
            return emit_sized(self.builder, name, resolved, kwargs)
        return self.builder.emit(name, *resolved, **kwargs)

    def _evaluate(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], values: Sequence[Known]) -> Known:
        fixed = all(value.first is value.second for value in values) and not has_batch_size(args)

        def side(index: int, device: str = "cpu") -> torch.Tensor:
            def leaf(argument: object) -> object:
                if not isinstance(argument, Known):
                    return argument
                tensor = argument.second if index else argument.first
                return tensor.to("meta") if device == "meta" else tensor

            sized: Any = at_batch(map_argument(list(args), leaf), BATCHES[index])
            with torch.no_grad():
                result: torch.Tensor = operator(name)(*sized, **kwargs)
            return result

        if sum(value.first.numel() for value in values) > _SMALL:
            refuse_giants(side(1, "meta").shape)
        first = side(0)
        return Known(first, first if fixed else side(1))

    def cast(self, value: Value, dtype: torch.dtype) -> Value:
        """Return the value in another type; a value of the graph in the type that represents it there."""
        return self.emit("aten.to.dtype", value, dtype if isinstance(value, Known) else graph_dtype(dtype))

    def entries(self, value: Value, axis: int, places: Sequence[int]) -> Value:
        """Return entries along an axis by constant indices, in any order and number."""
        if isinstance(value, fx.Node):
            return moves.entries(self.builder, value, axis, places)
        index = torch.tensor(list(places), dtype=torch.int64)
        return self.both(lambda side: side.index_select(axis, index), value)

    def reshape(self, value: Value, sizes: Sequence[Dim]) -> Value:
        """Return the value in another shape; the value before an earlier reshape if that has this shape."""
        if isinstance(value, fx.Node):
            while value.op == "call_function" and str(value.target) == "aten.reshape.default":
                value = value.args[0]  # type: ignore[assignment]
        if isinstance(value, fx.Node) and tuple(sizes) == self.shape(value):
            return value
        return self.emit("aten.reshape.default", value, list(sizes))


def _values(argument: object) -> list[Value]:
    values: list[Value] = []
    map_argument(argument, lambda leaf: values.append(leaf) if isinstance(leaf, fx.Node | Known) else None)
    return values
