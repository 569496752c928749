"""Importers of ONNX's pools in one, two or three dimensions, as pools of pictures along one or two dimensions at a time."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Known, Value, imports, times
from hecompile.frontend.onnx.windows import Window, padded, spatial, window_of

__all__: list[str] = []  # importers register themselves


@imports("AveragePool", "MaxPool")
def _pool(call: Call) -> Value:
    """Import a pool. A window over a volume becomes one over its pictures, then one over its frames: maximum and mean allow
    that."""
    x, kernel = call.input(0), tuple(call.attr("kernel_shape"))
    sizes = spatial(call, x, len(kernel))
    window = window_of(call, kernel, sizes)
    batch, channels = call.shape(x)[:2]
    if len(kernel) == 2:
        return _pictures(call, x, window)
    if len(kernel) == 1:
        rows = _pictures(call, call.reshape(x, [batch, channels, 1, *sizes]), _frames(window, row=True))
        return call.reshape(rows, [batch, channels, call.size(rows, 3)])
    frames = sizes[0]
    flat = Window(*(numbers[1:] for numbers in _numbers(window)))
    pictures = _pictures(call, call.reshape(x, [batch, times(channels, frames), *sizes[1:]]), flat)
    height, width = call.size(pictures, 2), call.size(pictures, 3)
    volume = call.reshape(pictures, [batch, channels, frames, height * width])
    volume = _pictures(call, volume, _frames(window, row=False))
    return call.reshape(volume, [batch, channels, call.size(volume, 2), height, width])


def _numbers(window: Window) -> tuple[tuple[int, ...], ...]:
    return window.kernel, window.stride, window.dilation, window.before, window.after


def _frames(window: Window, row: bool) -> Window:
    """Return the window's first dimension as a window of pictures, one entry high (`row`) or one entry wide."""
    pairs = [(one, numbers[0]) for one, numbers in zip((1, 1, 1, 0, 0), _numbers(window), strict=True)]
    return Window(*(pair if row else pair[::-1] for pair in pairs))


def _beyond(call: Call, x: Value, window: Window) -> tuple[int, ...]:
    """Return how far the last window reaches beyond the padding, where `ceil_mode` also counts incomplete windows."""
    beyond = []
    for axis, size in enumerate(spatial(call, x, 2)):
        before, after, step, reach = (numbers[axis] for numbers in (window.before, window.after, window.stride, window.reach))
        room = size + before + after - reach
        if room < 0:
            raise CompileError(f"{call.kind}: a window of {reach} entries does not fit {size + before + after} entries")
        count = -(-room // step) + 1
        count -= (count - 1) * step >= size + before  # a window must begin in the picture
        beyond.append(max(0, (count - 1) * step - room))
    return tuple(beyond) if call.attr("ceil_mode", 0) else (0, 0)


def _pictures(call: Call, x: Value, window: Window) -> Value:
    """Pool over height and width."""
    beyond = _beyond(call, x, window)
    small = all(2 * amount <= size for amount, size in zip(window.before, window.kernel, strict=True))
    even = window.before == window.after and beyond == (0, 0) and small
    kernel, stride, dilation, padding = (
        list(numbers) for numbers in (window.kernel, window.stride, window.dilation, window.before if even else (0, 0))
    )
    after = tuple(map(sum, zip(window.after, beyond, strict=True)))
    if call.kind == "MaxPool":
        x = x if even else padded(call, x, window.before, after, float("-inf"))
        return call.emit("aten.max_pool2d.default", x, kernel, stride, padding, dilation)
    if any(step > 1 and size > 1 for step, size in zip(window.dilation, window.kernel, strict=True)):
        raise CompileError(Diagnostic("AveragePool with dilation is not supported", help="write it as a Conv with equal weights"))
    counted = bool(call.attr("count_include_pad", 0))
    if even:
        return call.emit("aten.avg_pool2d.default", x, kernel, stride, padding, False, counted)
    ones = torch.ones(1, 1, *spatial(call, x, 2))
    share: Value = Known(ones, ones)  # of each window that counts
    if counted:
        share = padded(call, padded(call, share, window.before, window.after, 1.0), (0, 0), beyond, 0.0)
    else:
        share = padded(call, share, window.before, after, 0.0)
    share, x = (
        call.emit("aten.avg_pool2d.default", value, kernel, stride, [0, 0], False, True)
        for value in (share, padded(call, x, window.before, after, 0.0))
    )
    known = call.known(share, "the share").first
    return x if bool((known == 1).all()) else call.emit("aten.div.Tensor", x, share)


@imports("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call) -> Value:
    x = call.input(0)
    dims = list(range(2, len(call.shape(x))))
    return call.emit("aten.mean.dim" if call.kind == "GlobalAveragePool" else "aten.amax.default", x, dims, True)
