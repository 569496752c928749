"""Importers of ONNX operators that reshape a value, repeat it, join or split it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.batch import fits_one_batch, fixed_batch
from hecompile.frontend.onnx.values import Call, Known, Value, imports, refuse_giants, times
from hecompile.ir.graph import Batch, Dim, concrete_shape
from hecompile.ir.shapes import BATCHES, dim_between

__all__: list[str] = []  # importers register themselves


@imports("Reshape")
def _reshape(call: Call) -> Value:
    x = call.input(0)
    target = call.known(call.input(1), "the shape")
    own, sides = call.shape(x), []
    plain = [int(size) for size in target.first.flatten()]
    if target.fixed and not call.attr("allowzero", 0) and fits_one_batch(own, plain):
        raise fixed_batch(call, f"the shape {plain}")
    for batch, tensor in zip(BATCHES, (target.first, target.second), strict=True):
        shape = concrete_shape(own, batch)
        wanted = [int(size) for size in tensor.flatten()]
        if not call.attr("allowzero", 0):
            wanted = [shape[place] if size == 0 and place < len(shape) else size for place, size in enumerate(wanted)]
        try:
            sides.append(torch.empty(shape, device="meta").reshape(wanted).shape)
        except RuntimeError as error:
            raise CompileError(f"cannot reshape {'x'.join(map(str, own))} to {plain}") from error
    return call.reshape(x, [dim_between(*pair) for pair in zip(*sides, strict=True)])


@imports("Flatten")
def _flatten(call: Call) -> Value:
    x, axis = call.input(0), call.attr("axis", 1)
    shape = call.shape(x)
    if not -len(shape) <= axis <= len(shape):
        raise CompileError(f"cannot flatten {len(shape)} dimensions at axis {axis}")
    return call.reshape(x, [times(*shape[:axis]), times(*shape[axis:])])


@imports("Squeeze")
def _squeeze(call: Call) -> Value:
    x, axes = call.input(0), call.axes(1)
    shape = call.shape(x)
    gone = {place for place, dim in enumerate(shape) if dim == 1} if axes is None else {call.axis(x, axis) for axis in axes}
    if any(shape[place] != 1 for place in gone):
        raise CompileError(f"Squeeze of a dimension of {[str(shape[place]) for place in sorted(gone)]}")
    return call.reshape(x, [dim for place, dim in enumerate(shape) if place not in gone])


@imports("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x, axes = call.input(0), call.axes(1) or []
    shape = list(call.shape(x))
    rank = len(shape) + len(axes)
    places = sorted({axis % rank for axis in axes})
    if len(places) != len(axes) or any(not -rank <= axis < rank for axis in axes):
        raise CompileError(f"cannot unsqueeze axes {axes} of {rank} dimensions")
    for axis in places:
        shape.insert(axis, 1)
    return call.reshape(x, shape)


@imports("Transpose")
def _transpose(call: Call) -> Value:
    x = call.input(0)
    order = call.attr("perm") or list(reversed(range(len(call.shape(x)))))
    return call.emit("aten.permute.default", x, [int(axis) for axis in order])


@imports("Expand")
def _expand(call: Call) -> Value:
    return _broadcast(call, call.input(0), call.sizes(call.input(1), "the shape"))


def _broadcast(call: Call, x: Value, target: Sequence[Dim]) -> Value:
    """Broadcast the value and the target to their common shape."""
    own = call.shape(x)
    rank = max(len(own), len(target))
    wide, target = (1,) * (rank - len(own)) + own, (1,) * (rank - len(target)) + tuple(target)
    wanted: list[Dim] = [there if here == 1 else here for here, there in zip(wide, target, strict=True)]
    for here, there in zip(wanted, target, strict=True):
        if there in (1, here):
            continue
        if isinstance(here, Batch):
            raise fixed_batch(call, f"the shape {[str(size) for size in target]}")
        raise CompileError(f"cannot expand {'x'.join(map(str, own))} to {'x'.join(map(str, target))}")
    if tuple(wanted) == own:
        return x
    refuse_giants(concrete_shape(tuple(wanted), BATCHES[1]))
    return call.emit("aten.expand.default", x, wanted)


@imports("Tile")
def _tile(call: Call) -> Value:
    x, repeats = call.input(0), call.sizes(call.input(1), "the repeats")
    if isinstance(x, Known):
        factors = [*repeats, *call.shape(x)]
        refuse_giants(concrete_shape(tuple(factors), BATCHES[1]))
    return call.emit("aten.repeat.default", x, repeats)


@imports("Concat")
def _concat(call: Call) -> Value:
    parts = [call.input(index) for index in range(len(call.given))]
    kept = [part for part in parts if len(call.shape(part)) != 1 or call.shape(part) != (0,)] or parts[:1]
    return kept[0] if len(kept) == 1 else call.emit("aten.cat.default", kept, call.attr("axis"))


@imports("Split")
def _split(call: Call) -> Sequence[Value]:
    x = call.input(0)
    shape = call.shape(x)
    axis = call.axis(x, call.attr("axis", 0))
    size = shape[axis]
    if isinstance(size, Batch):
        raise CompileError(Diagnostic("Split cannot divide the batch dimension", help="treat all elements of the batch alike"))
    listed = call.attr("split") or (call.ints(call.input(1), "the sizes") if call.maybe(1) is not None else None)
    count = call.attr("num_outputs", call.outputs)
    step = -(-size // count)
    widths = listed or [min(step, size - start) for start in range(0, size, step)]
    if sum(widths) != size or len(widths) < call.outputs or min(widths) < 0:
        raise CompileError(f"cannot split {size} entries into {widths} for {call.outputs} outputs")
    pieces, start = [], 0
    for width in widths:
        pieces.append(call.emit("aten.slice.Tensor", x, axis, start, start + width, 1))
        start += width
    return pieces


@imports("DepthToSpace", "SpaceToDepth")
def _pixels(call: Call) -> Value:
    x, block = call.input(0), call.attr("blocksize")
    if len(call.shape(x)) != 4:
        raise CompileError(f"{call.kind} needs a tensor of four dimensions, not {len(call.shape(x))}")
    batch, (channels, height, width) = call.shape(x)[0], (call.size(x, axis) for axis in (1, 2, 3))
    if call.kind == "SpaceToDepth":
        split = call.reshape(x, [batch, channels, height // block, block, width // block, block])
        turned = call.emit("aten.permute.default", split, [0, 3, 5, 1, 2, 4])
        return call.reshape(turned, [batch, channels * block * block, height // block, width // block])
    inner = channels // (block * block)
    if call.text("mode", "DCR") == "CRD":
        split = call.reshape(x, [batch, inner, block, block, height, width])
        turned = call.emit("aten.permute.default", split, [0, 1, 4, 2, 5, 3])
    else:
        split = call.reshape(x, [batch, block, block, inner, height, width])
        turned = call.emit("aten.permute.default", split, [0, 3, 4, 1, 5, 2])
    return call.reshape(turned, [batch, inner, height * block, width * block])
