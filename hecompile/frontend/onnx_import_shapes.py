"""ONNX operators that move, repeat or make entries, and those of shape arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx_import_file import tensor_of
from hecompile.frontend.onnx_import_values import DTYPES, Call, Known, Value, imports, refuse_giants, times
from hecompile.ir.graph import Batch, Dim, concrete_shape
from hecompile.ir.shapes import BATCHES, dim_between

__all__: list[str] = []  # importers register themselves


@imports("Identity", "Dropout")
def _same(call: Call) -> Value:
    return call.input(0)


@imports("Constant")
def _constant(call: Call) -> Value:
    for name, dtype in (("float", torch.float32), ("floats", torch.float32), ("int", torch.int64), ("ints", torch.int64)):
        if f"value_{name}" in call.attributes:
            tensor = torch.tensor(call.attr(f"value_{name}"), dtype=dtype)
            return Known(tensor, tensor)
    tensor = tensor_of(call.attributes["value"])
    return Known(tensor, tensor)


@imports("Shape")
def _shape(call: Call) -> Value:
    shape = call.shape(call.input(0))[call.attr("start", 0) : call.attr("end")]
    first, second = (torch.tensor(concrete_shape(shape, batch), dtype=torch.int64) for batch in BATCHES)
    return Known(first, second)


@imports("Size")
def _size(call: Call) -> Value:
    first, second = (torch.tensor(concrete_shape(call.shape(call.input(0)), batch)).prod() for batch in BATCHES)
    return Known(first, second)


@imports("ConstantOfShape")
def _fill(call: Call) -> Value:
    proto = call.attr("value")
    value = torch.zeros(1) if proto is None else tensor_of(proto).flatten()

    def fill(sizes: torch.Tensor) -> torch.Tensor:
        refuse_giants(sizes.tolist())
        return torch.full(sizes.tolist(), value[0].item(), dtype=value.dtype)

    return call.both(fill, call.known(call.input(0), "the shape"))


@imports("Range")
def _range(call: Call) -> Value:
    def arange(start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        refuse_giants([int((limit.item() - start.item()) / delta.item())])
        return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)

    return call.both(arange, *(call.known(call.input(index), "its range") for index in range(3)))


@imports("Cast")
def _cast(call: Call) -> Value:
    if call.attr("to") not in DTYPES:
        raise CompileError(Diagnostic("Cast to a type that is not computed with", help="export the model in float32"))
    return call.emit("aten.to.dtype", call.input(0), DTYPES[call.attr("to")])


@imports("CastLike")
def _cast_like(call: Call) -> Value:
    like = call.input(1)
    fake = like.first if isinstance(like, Known) else call.builder.fake(like)[0]
    return call.emit("aten.to.dtype", call.input(0), fake.dtype)


@imports("Reshape")
def _reshape(call: Call) -> Value:
    x = call.input(0)
    target = call.known(call.input(1), "the shape")
    own = call.shape(x)
    sides = []
    for batch, tensor in zip(BATCHES, (target.first, target.second), strict=True):
        shape = concrete_shape(own, batch)
        wanted = [int(size) for size in tensor]
        if not call.attr("allowzero", 0):
            wanted = [shape[place] if size == 0 else size for place, size in enumerate(wanted)]
        sides.append(torch.empty(shape, device="meta").reshape(wanted).shape)
    return call.reshape(x, [dim_between(*pair) for pair in zip(*sides, strict=True)])


@imports("Flatten")
def _flatten(call: Call) -> Value:
    x, axis = call.input(0), call.attr("axis", 1)
    shape = call.shape(x)
    return call.reshape(x, [times(*shape[:axis]), times(*shape[axis:])])


@imports("Squeeze")
def _squeeze(call: Call) -> Value:
    x, axes = call.input(0), call.axes(1)
    shape = call.shape(x)
    gone = {place for place, dim in enumerate(shape) if dim == 1} if axes is None else {axis % len(shape) for axis in axes}
    if any(shape[place] != 1 for place in gone):
        raise CompileError(f"Squeeze of a dimension of {[str(shape[place]) for place in sorted(gone)]}")
    return call.reshape(x, [dim for place, dim in enumerate(shape) if place not in gone])


@imports("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x, axes = call.input(0), call.axes(1) or []
    shape = list(call.shape(x))
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
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
    """To the common shape of the value and the target."""
    own = call.shape(x)
    rank = max(len(own), len(target))
    wide, target = (1,) * (rank - len(own)) + own, (1,) * (rank - len(target)) + tuple(target)
    wanted: list[Dim] = [there if here == 1 else here for here, there in zip(wide, target, strict=True)]
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
    axis = call.attr("axis", 0) % len(shape)
    size = shape[axis]
    if isinstance(size, Batch):
        raise CompileError(Diagnostic("Split of the batch", help="treat all elements alike"))
    listed = call.attr("split") or (call.ints(call.input(1), "the sizes") if call.maybe(1) is not None else None)
    count = call.attr("num_outputs", call.outputs)
    step = -(-size // count)
    widths = listed or [min(step, size - start) for start in range(0, size, step)]
    pieces, start = [], 0
    for width in widths:
        pieces.append(call.emit("aten.slice.Tensor", x, axis, start, start + width, 1))
        start += width
    return pieces


@imports("Slice")
def _slice(call: Call) -> Value:
    x = call.input(0)
    bounds = [call.known(call.input(index), "a bound") for index in (1, 2)]
    rank = len(call.shape(x))
    count = bounds[0].first.numel()
    axes = call.ints(call.maybe(3), "the axes") if call.maybe(3) is not None else list(range(count))
    steps = call.ints(call.maybe(4), "the steps") if call.maybe(4) is not None else [1] * count
    for place, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        ends = [[int(bound.first[place]), int(bound.second[place])] for bound in bounds]
        x = _cut(call, x, axis % rank, ends[0], ends[1], step)
    return x


def _cut(call: Call, x: Value, axis: int, starts: Sequence[int], ends: Sequence[int], step: int) -> Value:
    """One axis from start to end, each given at both batch sizes."""
    size = call.shape(x)[axis]
    sizes = concrete_shape((size,), BATCHES[0]) + concrete_shape((size,), BATCHES[1])
    if step < 0:
        if step != -1 or any(start not in (-1, own - 1) for start, own in zip(starts, sizes, strict=True)) or ends[0] > -sizes[0]:
            raise CompileError(
                Diagnostic(f"Slice with step {step}", help="reverse the whole dimension, or index with positive steps")
            )
        return call.emit("aten.flip.default", x, [axis])
    ranges = [slice(start, end, step).indices(own) for start, end, own in zip(starts, ends, sizes, strict=True)]
    if all(found == (0, own, 1) for found, own in zip(ranges, sizes, strict=True)):
        return x
    if isinstance(x, Known):
        first, second = (
            side[(slice(None),) * axis + (slice(*found),)] for side, found in zip((x.first, x.second), ranges, strict=True)
        )
        return Known(first, second)
    if isinstance(size, Batch) or ranges[0] != ranges[1]:
        raise CompileError(Diagnostic("a slice of the batch", help="treat all elements alike"))
    return call.emit("aten.slice.Tensor", x, axis, *ranges[0])


@imports("Gather")
def _gather(call: Call) -> Value:
    x, index = call.input(0), call.input(1)
    shape = call.shape(x)
    axis = call.attr("axis", 0) % len(shape)
    if isinstance(index, fx.Node):
        return _look_up(call, x, index, axis)
    if isinstance(x, Known):

        def pick(data: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            flat = places.flatten().long() % max(data.shape[axis], 1)
            return data.index_select(axis, flat).reshape((*data.shape[:axis], *places.shape, *data.shape[axis + 1 :]))

        return call.both(pick, x, index)
    places, size = call.ints(index, "the index"), shape[axis]
    if isinstance(size, Batch) or index.first.dim() > 1:
        raise CompileError(Diagnostic("Gather along the batch, or by a matrix", help="index other dimensions, by one list"))
    places = [place % size for place in places]
    if index.first.dim() == 0:
        return call.emit("aten.select.int", x, axis, places[0])
    if places == list(range(places[0], places[0] + len(places))):
        return call.emit("aten.slice.Tensor", x, axis, places[0], places[-1] + 1, 1)
    return call.emit("aten.cat.default", [call.emit("aten.slice.Tensor", x, axis, at, at + 1, 1) for at in places], axis)


def _look_up(call: Call, x: Value, index: fx.Node, axis: int) -> Value:
    """A row of a constant table."""
    table, shape = call.known(x, "the table"), call.shape(x)
    if axis or len(shape) > 2:
        raise CompileError(Diagnostic(f"Gather along dimension {axis} by a value", help="look up rows of a matrix (nn.Embedding)"))
    if len(shape) == 2:
        return call.emit("aten.embedding.default", table, index)
    rows = call.emit("aten.embedding.default", call.reshape(table, [*shape, 1]), index)
    return call.reshape(rows, call.shape(index))


@imports("Pad")
def _pad(call: Call) -> Value:
    x = call.input(0)
    rank, amounts = len(call.shape(x)), call.ints(call.input(1), "the padding")
    axes = call.axes(3) or list(range(rank))
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = amounts[place], amounts[place + len(axes)]
    if isinstance(call.shape(x)[0], Batch) and (before[0] or after[0]):
        raise CompileError("Pad of the batch")
    used = next((axis for axis in range(rank) if before[axis] or after[axis]), None)
    if used is None:
        return x
    mode = call.attr("mode", b"constant").decode()
    used = used if mode == "constant" else rank - 2
    pad = [amount for axis in reversed(range(used, rank)) for amount in (before[axis], after[axis])]
    if mode == "constant":
        value = call.number(call.maybe(2)) if call.maybe(2) is not None else 0.0
        return call.emit("aten.constant_pad_nd.default", x, pad, value or 0.0)
    names = {"reflect": "aten.reflection_pad2d.default", "edge": "aten.replication_pad2d.default"}
    if mode not in names or any(before[: rank - 2]) or any(after[: rank - 2]):
        raise CompileError(Diagnostic(f"Pad in mode '{mode}'", help="use constant, reflect or edge, on height and width"))
    return call.emit(names[mode], x, pad)


@imports("DepthToSpace", "SpaceToDepth")
def _pixels(call: Call) -> Value:
    x, block = call.input(0), call.attr("blocksize")
    batch, channels, height, width = call.shape(x)
    if isinstance(channels, Batch) or isinstance(height, Batch) or isinstance(width, Batch):
        raise CompileError(f"{call.kind}: the batch is not the first dimension")
    if call.kind == "SpaceToDepth":
        split = call.reshape(x, [batch, channels, height // block, block, width // block, block])
        turned = call.emit("aten.permute.default", split, [0, 3, 5, 1, 2, 4])
        return call.reshape(turned, [batch, channels * block * block, height // block, width // block])
    inner = channels // (block * block)
    if call.attr("mode", b"DCR") == b"CRD":
        split = call.reshape(x, [batch, inner, block, block, height, width])
        turned = call.emit("aten.permute.default", split, [0, 1, 4, 2, 5, 3])
    else:
        split = call.reshape(x, [batch, block, block, inner, height, width])
        turned = call.emit("aten.permute.default", split, [0, 3, 4, 1, 5, 2])
    return call.reshape(turned, [batch, inner, height * block, width * block])
