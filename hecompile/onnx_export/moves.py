"""Writes moves of data in ONNX: shapes, orders, slices and padding. Moves that cancel each other are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.ir.graph import info
from hecompile.onnx_export.writer import EMITTERS, Emitter, Writer, emits

if TYPE_CHECKING:
    from torch import fx

Args = Sequence[Any]


@emits("reshape.default")
def _reshape(w: Writer, node: fx.Node, args: Args) -> str:
    made = w.made.get(args[0])
    if (
        made is not None and made.op_type == "Reshape" and 0 not in args[1]
    ):  # only the last of several reshapes counts; 0 would mean a size of the operand
        return w.call("Reshape", [made.input[0], w.ints(args[1])])
    return w.call("Reshape", [args[0], w.ints(args[1])])


@emits("permute.default")
def _permute(w: Writer, node: fx.Node, args: Args) -> str:
    made = w.made.get(args[0])
    if made is not None and made.op_type == "Transpose":
        before = made.attribute[0].ints
        if [before[axis] for axis in args[1]] == list(range(len(before))):  # undoes the permutation before
            return str(made.input[0])
    return w.call("Transpose", args[:1], perm=list(args[1]))


@emits("expand.default")
def _expand(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Expand", [args[0], w.ints([1 if size == -1 else size for size in args[1]])])


@emits("expand_as.default")
def _expand_as(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Expand", [args[0], w.call("Shape", [args[1]])])


@emits("cat.default")
def _cat(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Concat", args[0], axis=args[1])


@emits("slice.Tensor")
def _slice(w: Writer, node: fx.Node, args: Args) -> str:
    dim, start, end, step = args[1:5]
    return w.call("Slice", [args[0], w.ints([start]), w.ints([end]), w.ints([dim]), w.ints([step])])


@emits("index_select.default")
def _index_select(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Gather", [args[0], args[2]], axis=args[1])


def _pad(mode: str) -> Emitter:
    def emit(w: Writer, node: fx.Node, args: Args) -> str:
        rank, pad = len(info(node).shape), list(args[1])
        before, after = [0] * rank, [0] * rank
        for place in range(len(pad) // 2):
            before[rank - 1 - place], after[rank - 1 - place] = pad[2 * place], pad[2 * place + 1]
        inputs = [args[0], w.ints(before + after)]
        if mode == "constant":
            inputs.append(w.constant(args[2] if len(args) > 2 else 0.0, np.dtype(info(node).dtype)))
        return w.call("Pad", inputs, mode=mode)

    return emit


for _name, _kind in {
    "constant_pad_nd.default": "constant", "reflection_pad2d.default": "reflect", "replication_pad2d.default": "edge",
}.items():  # fmt: skip
    EMITTERS[f"aten.{_name}"] = _pad(_kind)
