"""Detects that a constant of the file contains the batch size of the export, so that the file fits this batch size only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.findings import EXPORT_AGAIN
from hecompile.frontend.onnx.values import Call
from hecompile.ir.graph import Batch, Dim

__all__ = ["fixed_batch", "written_in"]

_SIZES = "; in the model's code write x.shape[0] or -1 where the number stands"
_BROADCAST = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "And", "Or", "Xor", "PRelu", "Gemm",
)  # fmt: skip


def fixed_batch(call: Call, what: str) -> CompileError:
    """Return the error for a constant that fits one batch size only; `what` names it, as in "the shape [2, 4, 64]"."""
    name = next((spec.keyword[0] for spec in call.builder.inputs if spec.shape and isinstance(spec.shape[0], Batch)), "sample")
    help_text = EXPORT_AGAIN.format(repr(str(name))) + _SIZES
    return CompileError(Diagnostic(f"{call.kind}: {what} contains the batch size of the export as a constant", help=help_text))


def written_in(call: Call, names: Sequence[str]) -> Diagnostic | None:
    """For a node that failed, return the error for an input whose size is fixed where another's grows with the batch; None if there
    is none."""
    try:
        shapes = [(name, call.shape(value)) for name, value in zip(names, call.given, strict=True) if value is not None]
        aligned = [(name, _aligned(call, shape)) for name, shape in shapes]
    except (CompileError, ValueError):
        return None
    for name, shape in aligned:
        for place, size in shape.items():
            if isinstance(size, Batch) or (size == 1 and call.kind != "Concat"):
                continue
            if any(isinstance(other.get(place), Batch) for _, other in aligned):
                sizes = "x".join(map(str, dict(shapes)[name]))
                return fixed_batch(call, f"'{name}' of size {sizes}").diagnostics[0]
    return None


def _aligned(call: Call, shape: tuple[Dim, ...]) -> dict[int, Dim]:
    """Return the sizes that must agree with those of the other inputs, by dimension."""
    rank = len(shape)
    if call.kind == "Concat":
        along = int(call.attr("axis", 0)) % max(rank, 1)
        return {place: size for place, size in enumerate(shape) if place != along}
    if call.kind == "MatMul":
        return {place - rank: size for place, size in enumerate(shape) if place < rank - 2}
    if call.kind in _BROADCAST:
        return {place - rank: size for place, size in enumerate(shape)}
    return {}


def fits_one_batch(own: Sequence[Dim], wanted: Sequence[int]) -> bool:
    """Return whether a shape of numbers (0 keeps a size, -1 stands for the rest) contains the batch size of a value."""
    kept = [own[place] if size == 0 and place < len(own) else size for place, size in enumerate(wanted)]
    if not any(isinstance(size, Batch) for size in own) or any(isinstance(size, Batch) for size in kept):
        return False
    per_batch = math.prod(size.multiple if isinstance(size, Batch) else size for size in own)
    told = math.prod(size for size in kept if isinstance(size, int) and size >= 0)
    if not per_batch or not told:
        return False
    if -1 not in kept:
        return told % per_batch == 0
    first, multiple = kept[0], own[0].multiple if isinstance(own[0], Batch) else 0
    return isinstance(first, int) and first > 1 and multiple % first != 0 and per_batch * first % told == 0
