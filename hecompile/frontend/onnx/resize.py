"""Importer of ONNX's Resize, whose source positions are computed in float32 as ONNX Runtime does.

Nearest resizing selects entries by constant indices, or repeats every entry equally often, which a following convolution can
absorb. Linear resizing is the op table's bilinear resizing where the file has that form, else a weighted sum of two entries per
axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.batch import fixed_batch
from hecompile.frontend.onnx.values import Call, Known, Value, imports
from hecompile.ir.graph import Batch, Dim

__all__: list[str] = []  # importers register themselves

Array = npt.NDArray[np.float32]
_ONE, _HALF = np.float32(1), np.float32(0.5)


@dataclass(frozen=True)
class _Axis:
    """One axis: its size before and after, and the factor that the file gives or implies."""

    axis: int
    size: int
    target: int
    factor: np.float32

    @property
    def stays(self) -> bool:
        return self.size == self.target and self.factor == 1


def _half_pixel(places: Array, axis: _Axis) -> Array:
    return (places + _HALF) / axis.factor - _HALF


def _pytorch_half_pixel(places: Array, axis: _Axis) -> Array:
    return _half_pixel(places, axis) if axis.target > 1 else np.zeros_like(places)


def _half_pixel_symmetric(places: Array, axis: _Axis) -> Array:
    """Return source positions symmetric around the centre, for a size that is not exactly size x factor."""
    share = np.float32(axis.target) / (axis.factor * np.float32(axis.size))
    offset = np.float32(axis.size) / np.float32(2) * (_ONE - share)
    centred = np.float64(offset) + (places.astype(np.float64) + 0.5) / np.float64(axis.factor) - 0.5
    return centred.astype(np.float32)


def _align_corners(places: Array, axis: _Axis) -> Array:
    return places * np.float32(axis.size - 1) / np.float32(max(axis.target - 1, 1))


COORDINATES: dict[str, Callable[[Array, _Axis], Array]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "align_corners": _align_corners,
    "asymmetric": lambda places, axis: places / axis.factor,
    "tf_half_pixel_for_nn": lambda places, axis: (places + _HALF) / axis.factor,
}
_TIE = 1e-6  # ONNX Runtime treats positions this close to a half as a half
ROUNDINGS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5 - _TIE),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5 + _TIE),
    "floor": np.floor,
    "ceil": np.ceil,
}


@imports("Resize")
def _resize(call: Call) -> Value:
    x, mode, place = call.input(0), call.text("mode", "nearest"), call.text("coordinate_transformation_mode", "half_pixel")
    rounding = call.text("nearest_mode", "round_prefer_floor")
    axes = [axis for axis in _axes(call, x) if not axis.stays]
    if not axes:
        return x
    smooth = call.attr("antialias", 0) and mode != "nearest" and any(axis.target < axis.size for axis in axes)
    if mode not in ("nearest", "linear") or place not in COORDINATES or rounding not in ROUNDINGS or smooth:
        factors = [round(float(axis.factor), 4) for axis in axes]
        raise CompileError(
            Diagnostic(
                f"Resize by {factors} ({mode}, {place}{', antialias' if smooth else ''}) is not supported",
                help="use nearest or linear without antialias; in torch, F.interpolate(..., mode='nearest') or 'bilinear'",
            )
        )
    sources = [COORDINATES[place](np.arange(axis.target, dtype=np.float32), axis) for axis in axes]
    if mode == "linear":
        return _linear(call, x, axes, sources, place)
    places = [
        np.clip(ROUNDINGS[rounding](source.astype(np.float64)), 0, axis.size - 1).astype(np.int64)
        for axis, source in zip(axes, sources, strict=True)
    ]
    return _nearest(call, x, axes, places)


def _axes(call: Call, x: Value) -> list[_Axis]:
    """Return the axes that the file names, with their sizes after resizing."""
    shape, scales, sizes = call.shape(x), call.maybe(2), call.maybe(3)
    named = call.attr("axes")
    places = list(range(len(shape))) if named is None else [call.axis(x, axis) for axis in named]
    if isinstance(scales, Known) and not scales.first.numel():
        scales = None
    if scales is not None:
        pair = call.known(scales, "the scales")
        if not pair.fixed:
            raise CompileError(f"{call.kind}: its scales depend on the batch")
        factors = [np.float32(factor) for factor in pair.first.tolist()]
        return [_scaled(call, place, shape[place], factor) for place, factor in zip(places, factors, strict=True)]
    wanted = call.sizes(sizes, "the sizes")
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [_sized(call, place, shape[place], size) for place, size in zip(places, wanted, strict=True)]
    ratios = [_sized(call, place, shape[place], size).factor for place, size in zip(places, wanted, strict=True)]
    factor = min(ratios) if policy == "not_larger" else max(ratios)
    return [_Axis(place, size, int(np.floor(np.float64(factor * np.float32(size)) + 0.5)), factor)
            for place in places for size in [call.size(x, place)]]  # fmt: skip


def _scaled(call: Call, place: int, size: Dim, factor: np.float32) -> _Axis:
    if isinstance(size, Batch):
        if factor != 1:
            raise CompileError(
                Diagnostic("Resize of the batch dimension is not supported", help="treat all elements of the batch alike")
            )
        return _Axis(place, 1, 1, factor)
    return _checked(_Axis(place, size, int(np.float32(size) * factor), factor))


def _sized(call: Call, place: int, size: Dim, target: Dim) -> _Axis:
    if isinstance(size, Batch):
        if target != size:
            raise fixed_batch(call, f"the size {target} of axis {place}")
        return _Axis(place, 1, 1, _ONE)
    if isinstance(target, Batch):
        raise CompileError(f"{call.kind}: a size that depends on the batch")
    return _checked(_Axis(place, size, target, np.float32(target) / np.float32(size)))


def _checked(axis: _Axis) -> _Axis:
    if axis.size < 1 or not 0 < axis.target < 1 << 20:
        raise CompileError(f"Resize of {axis.size} entries to {axis.target}")
    return axis


def _nearest(call: Call, x: Value, axes: list[_Axis], places: list[npt.NDArray[np.int64]]) -> Value:
    """Repeat entries where that resizes a picture or a row, and select entries by index otherwise."""
    shape = call.shape(x)
    factors = {}
    for axis, own in zip(axes, places, strict=True):
        factor, rest = divmod(axis.target, axis.size)
        if not rest and list(own) == [place // factor for place in range(axis.target)]:
            factors[axis.axis] = float(factor)
    if len(factors) == len(axes) and len(shape) in (3, 4) and min(factors) >= 2:
        wide = x if len(shape) == 4 else call.reshape(x, [*shape[:2], 1, shape[2]])
        pair = [factors.get(2, 1.0), factors.get(3, 1.0)] if len(shape) == 4 else [1.0, factors[2]]
        wide = call.emit("aten.upsample_nearest2d.vec", wide, None, pair)
        return wide if len(shape) == 4 else call.reshape(wide, [*shape[:2], axes[0].target])
    for axis, own in zip(axes, places, strict=True):
        x = call.entries(x, axis.axis, own.tolist())
    return x


def _linear(call: Call, x: Value, axes: list[_Axis], sources: list[Array], place: str) -> Value:
    """Use the op table's bilinear resizing for height and width where it fits, else resize axis by axis."""
    shape = call.shape(x)
    plain = place in ("half_pixel", "align_corners") or (place == "pytorch_half_pixel" and all(axis.target > 1 for axis in axes))
    factors = {axis.axis: _factor(axis) for axis in axes}
    if len(shape) == 4 and plain and min(factors) >= 2 and all(factors.values()):
        pair = [factors.get(2, 1.0), factors.get(3, 1.0)]
        return call.emit("aten.upsample_bilinear2d.vec", x, None, place == "align_corners", pair)
    for axis, source in zip(axes, sources, strict=True):
        x = _blended(call, x, axis, source)
    return x


def _factor(axis: _Axis) -> float | None:
    """Return a float64 factor by which torch, which rounds down, computes the same size; None if there is none."""
    own, ratio = float(axis.factor), axis.target / axis.size
    close = [ratio, float(np.nextafter(ratio, np.inf))] if abs(own * axis.size - axis.target) < 1e-4 else []
    return next((factor for factor in (*close, own) if int(axis.size * factor) == axis.target), None)


def _blended(call: Call, x: Value, axis: _Axis, source: Array) -> Value:
    """Return, for each position, the two entries around its source, weighted by their distance."""
    inside = np.clip(source, 0, np.float32(axis.size - 1))
    low = np.floor(inside).astype(np.int64)
    high = np.minimum(low + 1, axis.size - 1)
    share = torch.from_numpy((inside - low).astype(np.float32)).reshape(-1, *[1] * (len(call.shape(x)) - 1 - axis.axis))
    below, above = (call.entries(x, axis.axis, places.tolist()) for places in (low, high))
    parts = [
        call.emit("aten.mul.Tensor", part, Known(weight, weight, "share")) for part, weight in ((below, 1 - share), (above, share))
    ]
    return call.emit("aten.add.Tensor", *parts)
