"""Importers of ONNX's convolutions in one, two or three dimensions, and the windows that they share with pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Known, Value, imports

__all__ = ["Window", "padded", "spatial", "window_of"]

_CONVS = ("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
_TRANSPOSED = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")


@dataclass(frozen=True)
class Window:
    """How a kernel moves over the entries: one number per spatial dimension. The padding is that of the file."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """How many entries the kernel spans."""
        return tuple(step * (size - 1) + 1 for step, size in zip(self.dilation, self.kernel, strict=True))


def spatial(call: Call, x: Value, rank: int) -> tuple[int, ...]:
    """Return the sizes of a picture (two), row (one) or volume (three), behind batch and channels."""
    shape = call.shape(x)
    if len(shape) != rank + 2 or not 1 <= rank <= 3:
        raise CompileError(
            Diagnostic(
                f"{call.kind}: a kernel of {rank} dimensions does not fit a tensor of {len(shape)}",
                help="use one to three dimensions",
            )
        )
    return tuple(call.size(x, axis) for axis in range(2, len(shape)))


def window_of(call: Call, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """Return the call's strides, dilations and padding. `auto_pad` becomes numbers, so that the result has ceil(size / stride)
    entries."""
    rank = len(kernel)
    stride, dilation = (tuple(call.attr(name) or [1] * rank) for name in ("strides", "dilations"))
    pads = tuple(call.attr("pads") or [0] * 2 * rank)
    auto = call.text("auto_pad", "NOTSET")
    if (len(stride), len(dilation), len(pads)) != (rank, rank, 2 * rank) or min(*stride, *dilation, *kernel) < 1:
        raise CompileError(f"{call.kind} with strides {stride}, dilations {dilation}, pads {pads} for a kernel {tuple(kernel)}")
    plain = Window(tuple(kernel), stride, dilation, pads[:rank], pads[rank:])
    if auto == "NOTSET" or call.kind == "ConvTranspose":
        return plain
    if auto.startswith("SAME") and call.kind == "MaxPool" and max(dilation) > 1:
        raise CompileError(
            Diagnostic(f"MaxPool with dilation and auto_pad {auto} is not supported", help="give its padding in numbers")
        )
    totals = [0] * rank
    if auto != "VALID":
        totals = [
            max(0, (-(-size // step) - 1) * step + reach - size)
            for size, step, reach in zip(sizes, stride, plain.reach, strict=True)
        ]
    before, after = halves(totals, auto == "SAME_UPPER")
    return Window(plain.kernel, stride, dilation, before, after)


def halves(totals: Sequence[int], upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the padding before and after; an odd entry is at the end for `upper`."""
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def padded(call: Call, x: Value, before: Sequence[int], after: Sequence[int], fill: float) -> Value:
    """Add a border to a picture, as a separate operation."""
    if not any(before) and not any(after):
        return x
    pad = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return call.emit("aten.constant_pad_nd.default", x, pad, fill)


def _weight(call: Call) -> tuple[Known, tuple[int, ...]]:
    """Return the weight, and the sizes of its kernel."""
    weight = call.known(call.input(1), "its weight")
    kernel, declared = tuple(weight.first.shape[2:]), call.attr("kernel_shape")
    if declared and tuple(declared) != kernel:
        raise CompileError(f"{call.kind}: kernel_shape is {list(declared)}, the weight's kernel {list(kernel)}")
    return weight, kernel


def _biased(call: Call, result: Value, bias: Value) -> Value:
    """Add a bias per channel that is not a constant."""
    return call.emit("aten.add.Tensor", result, call.reshape(bias, [-1, *[1] * (len(call.shape(result)) - 2)]))


@imports("Conv")
def _conv(call: Call) -> Value:
    weight, kernel = _weight(call)
    x, bias, rank = call.input(0), call.maybe(2), len(kernel)
    window = window_of(call, kernel, spatial(call, x, rank))
    padding = list(window.before)
    if window.before != window.after:
        x, padding = padded(call, x, window.before, window.after, 0.0), [0] * rank
    own = bias if isinstance(bias, Known) else None
    sizes = (list(window.stride), padding, list(window.dilation), call.attr("group", 1))
    result = call.emit(_CONVS[rank - 1], x, weight, own, *sizes)
    return result if bias is own or bias is None else _biased(call, result, bias)


@imports("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    """Import a transposed convolution with the smaller padding of each axis; what the larger one cuts off more is sliced off."""
    weight, kernel = _weight(call)
    x, bias, rank = call.input(0), call.maybe(2), len(kernel)
    sizes = spatial(call, x, rank)
    window = window_of(call, kernel, sizes)
    before, after, more = _cropping(call, window, sizes)
    padding = [min(pair) for pair in zip(before, after, strict=True)]
    own = bias if isinstance(bias, Known) else None
    numbers = (list(window.stride), padding, more, call.attr("group", 1), list(window.dilation))
    result = call.emit(_TRANSPOSED[rank - 1], x, weight, own, *numbers)
    for place in range(rank):
        start, end = before[place] - padding[place], after[place] - padding[place]
        if start or end:
            result = call.emit("aten.slice.Tensor", result, 2 + place, start, call.size(result, 2 + place) - end, 1)
    return result if bias is own or bias is None else _biased(call, result, bias)


def _cropping(call: Call, window: Window, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    """Return what is cut off before and after, which is the padding or what a given size requires; and what is added after."""
    auto, wanted, none = call.text("auto_pad", "NOTSET"), call.attr("output_shape"), (0,) * len(sizes)
    more = list(call.attr("output_padding") or none)
    if not wanted and not auto.startswith("SAME"):
        return (none, none, more) if auto == "VALID" else (window.before, window.after, more)
    whole = [
        (size - 1) * step + reach + extra for size, step, reach, extra in zip(sizes, window.stride, window.reach, more, strict=True)
    ]
    targets = [size * step for size, step in zip(sizes, window.stride, strict=True)]
    if wanted:
        targets = list(wanted)[-len(sizes) :]
        more = [extra + max(0, target - have) for extra, target, have in zip(more, targets, whole, strict=True)]
    if any(extra and extra >= max(pair) for extra, *pair in zip(more, window.stride, window.dilation, strict=True)):
        raise CompileError(
            Diagnostic(f"ConvTranspose cannot give {targets}: its full result is {whole}", help="pad the result instead")
        )
    return *halves([max(0, have - target) for have, target in zip(whole, targets, strict=True)], auto == "SAME_UPPER"), more
