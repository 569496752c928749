"""Rules for convolutions in one, two and three dimensions, plain and transposed (see `rewrites`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.arithmetic import add
from hecompile.frontend.canonical.batch import in_front
from hecompile.frontend.canonical.moves import entries
from hecompile.frontend.canonical.padding import padded
from hecompile.frontend.canonical.rewrites import permute, reshape, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim

__all__: list[str] = []

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Steps:
    """How a kernel moves, one number per axis. `padding` is added before and after; for a transposed convolution it is cut off."""

    stride: list[int]
    padding: Pairs
    dilation: list[int]
    output_padding: list[int]
    groups: int
    transposed: bool

    def plane(self) -> Steps:
        """Return the steps without the first of three axes."""
        return replace(
            self, stride=self.stride[1:], padding=self.padding[1:], dilation=self.dilation[1:],
            output_padding=self.output_padding[1:],
        )  # fmt: skip

    def with_axis(self) -> Steps:
        """Return the steps with an axis of size one in front, along which nothing changes."""
        return replace(
            self, stride=[1, *self.stride], padding=[(0, 0), *self.padding], dilation=[1, *self.dilation],
            output_padding=[0, *self.output_padding],
        )  # fmt: skip


def _each(value: Any, rank: int) -> list[int]:
    """Return one number per axis, from one for all or one each."""
    line = list(value) if isinstance(value, list | tuple) else [value]
    return line * (rank // len(line))


def _padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Return the padding before and after, per axis. 'same' adds an odd entry after, as torch does."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(amount, amount) for amount in _each(padding, len(kernel))]


def _convolved(
    b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None, stride: Any, padding: Any, dilation: Any, groups: int,
    transposed: bool = False, output_padding: Any = 0,
) -> fx.Node:  # fmt: skip
    if b.value(weight) is None:
        help_text = "do not compute them from inputs: an encrypted layer needs weights that are known when it is compiled"
        raise CompileError(Diagnostic("the weights of a convolution must be constants", source=b.origin.source, help=help_text))
    kernel = [int(str(size)) for size in b.shape(weight)[2:]]
    rank = len(kernel)
    dilations = _each(dilation, rank)
    amounts = _padding(padding, kernel, dilations)
    steps = Steps(_each(stride, rank), amounts, dilations, _each(output_padding, rank), groups, transposed)
    shape = b.shape(x)
    alone = len(shape) == rank + 1  # one picture without a batch dimension
    x = reshape(b, x, (1, *shape)) if alone else x
    offset = bias if bias is not None and b.value(bias) is None else None
    result = _by_rank(b, x, weight, None if offset is not None else bias, steps)
    if offset is not None:
        result = add(b, result, reshape(b, offset, (*b.shape(offset), *[1] * rank)))
    return reshape(b, result, b.shape(result)[1:]) if alone else result


def _by_rank(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None, steps: Steps) -> fx.Node:
    """Rewrite a convolution of any rank as one on pictures: one axis becomes a picture with one row, three axes become pictures of
    the last two."""
    shape = b.shape(x)
    if len(shape) == 3:
        flat = _changed(b, weight, lambda value: value.unsqueeze(2))
        row = _pictures(b, reshape(b, x, (*shape[:2], 1, shape[2])), flat, bias, steps.with_axis())
        return reshape(b, row, (*b.shape(row)[:2], b.shape(row)[3]))
    if len(shape) == 4:
        return _pictures(b, x, weight, bias, steps)
    return _volumes(b, x, weight, bias, steps)


def _changed(b: Builder, constant: fx.Node, change: Callable[[Tensor], Tensor]) -> fx.Node:
    """Return a constant computed from another one; weights without data stay without."""
    value = b.value(constant)
    assert value is not None
    return b.constant(change(value).contiguous(), str(constant.target))


def _pictures(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None, steps: Steps) -> fx.Node:
    """Return the canonical layer on pictures (B, C, H, W)."""
    before = [pair[0] for pair in steps.padding]
    if steps.transposed:
        sizes: list[Any] = [steps.stride, before, steps.output_padding, steps.groups, steps.dilation]
        return in_front(b, x, 3, lambda y: b.emit("aten.conv_transpose2d.input", y, weight, bias, *sizes))
    extra = [after - amount for amount, after in steps.padding]
    x = padded(b, x, [number for amount in reversed(extra) for number in (0, amount)])
    return in_front(
        b, x, 3, lambda y: b.emit("aten.conv2d.default", y, weight, bias, steps.stride, before, steps.dilation, steps.groups)
    )


def _volumes(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None, steps: Steps) -> fx.Node:
    """Rewrite a layer on (B, C, F, H, W) as one on pictures.

    A kernel along F only becomes one on pictures with F rows. Any other kernel reads one picture for every frame of the result,
    made of the frames that it covers, side by side as channels.
    """
    depth, *kernel = (int(str(size)) for size in b.shape(weight)[2:])
    plain = steps.plane()
    if kernel == [1, 1] and depth > 1 and plain.padding == [(0, 0)] * 2 and not steps.transposed:
        return _along_frames(b, x, weight, bias, steps)
    batch, channels, frames, height, width = b.shape(x)
    places = _frames_below(int(str(frames)), depth, steps)
    groups, count = steps.groups, len(places)
    if any(place is None for line in places for place in line):
        x = padded(b, x, [0, 0, 0, 0, 0, 1])  # adds a frame of zeros at the end
    x = entries(b, x, 2, [int(str(frames)) if place is None else place for line in places for place in line])
    apart = reshape(b, x, (batch, groups, int(str(channels)) // groups, count, depth, height, width))
    turned = permute(b, apart, [0, 3, 1, 4, 2, 5, 6])  # (B, F', groups, depth, C/groups, H, W)
    pictures = reshape(b, turned, (_times(batch, count), int(str(channels)) * depth, height, width))
    result = _pictures(b, pictures, _changed(b, weight, lambda value: _side_by_side(value, groups, steps.transposed)), bias, plain)
    _, outputs, *size = b.shape(result)
    return permute(b, reshape(b, result, (batch, count, outputs, *size)), [0, 2, 1, 3, 4])


def _times(size: Dim, count: int) -> Dim:
    return Batch(size.multiple * count) if isinstance(size, Batch) else size * count


def _side_by_side(weight: Tensor, groups: int, transposed: bool) -> Tensor:
    """Return a kernel with its frames side by side as input channels of their group: (O, C, D, h, w) -> (O, D C, h, w), and for a
    transposed one (groups C, O, D, h, w) -> (groups D C, O, h, w)."""
    if not transposed:
        return weight.transpose(1, 2).flatten(1, 2)
    inputs, outputs, depth, *size = weight.shape
    return weight.reshape(groups, inputs // groups, outputs, depth, *size).permute(0, 3, 1, 2, 4, 5).flatten(0, 2)


def _frames_below(frames: int, depth: int, steps: Steps) -> list[list[int | None]]:
    """Return, for every frame of the result and of the kernel, the frame of the input that is read; None where there is none."""
    stride, (before, after), dilation = steps.stride[0], steps.padding[0], steps.dilation[0]
    reach = dilation * (depth - 1)
    if steps.transposed:
        count = (frames - 1) * stride - before - after + reach + steps.output_padding[0] + 1
        spread = [[frame + before - dilation * tap for tap in range(depth)] for frame in range(count)]
        table: list[list[int | None]] = [[None if place % stride else place // stride for place in line] for line in spread]
    else:
        count = (frames + before + after - reach - 1) // stride + 1
        table = [[frame * stride + dilation * tap - before for tap in range(depth)] for frame in range(count)]
    return [[place if place is not None and 0 <= place < frames else None for place in line] for line in table]


def _along_frames(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None, steps: Steps) -> fx.Node:
    """Apply a kernel (D, 1, 1) to pictures of F rows and H W columns."""
    for dim, stride in enumerate(steps.stride[1:], 3):
        x = entries(b, x, dim, range(0, int(str(b.shape(x)[dim])), stride))
    batch, channels, frames, height, width = b.shape(x)
    rows = reshape(b, x, (batch, channels, frames, height * width))  # type: ignore[operator]
    line = Steps([steps.stride[0], 1], [steps.padding[0], (0, 0)], [steps.dilation[0], 1], [0, 0], steps.groups, False)
    result = _pictures(b, rows, _changed(b, weight, lambda value: value.flatten(3)), bias, line)
    return reshape(b, result, (*b.shape(result)[:3], height, width))


@rule("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", "conv3d.default", "conv3d.padding")
def _conv(b: Builder, x: fx.Node, weight: fx.Node, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> fx.Node:
    return _convolved(b, x, weight, bias, stride, padding, dilation, groups)


@rule("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    b: Builder, x: fx.Node, weight: fx.Node, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> fx.Node:
    return _convolved(b, x, weight, bias, stride, padding, dilation, groups, True, output_padding)


@rule("convolution.default", "_convolution.default")
def _convolution(
    b: Builder, x: fx.Node, weight: fx.Node, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *_: Any,
) -> fx.Node:  # fmt: skip
    return _convolved(b, x, weight, bias, stride, padding, dilation, groups, transposed, output_padding)
