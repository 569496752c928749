"""The pass that chooses which channels, or tiles, of secret values are revealed: as many as a budget of distortion allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.ir.reveals import Mask, Reveal, insert_reveals, reveals
from hecompile.ir.tiles import cut_of
from hecompile.passes.base import Pass
from hecompile.policies.min_distortion import MinDistortion, from_latent
from hecompile.sparsity.importance import Floats, distortion_function
from hecompile.sparsity.selection import Grouping, select

if TYPE_CHECKING:
    import torch

    from hecompile.calibration import Calibration

__all__ = ["ExtractSparsity"]


@dataclass(frozen=True)
class ExtractSparsity(Pass[ModelGraph, ModelGraph]):
    """Mark the least important values, within a budget, as what the server may see. Policy min-distortion only.

    %y = conv2d(%x)  ->  %r = reveal(%x, encrypted<32>, shares<32>, 8)  # coo<9 of 32 encrypted>; %y = conv2d(%r)
    by tiles         ->  %r = reveal(%x, encrypted<2x2>, shares<2x2>, 8)  # coo<16 of 64 places encrypted>
    one reveal per value, whatever reads it; inputs, outputs and what derives from conditions alone stay encrypted
    other policies   ->  unchanged
    """

    policy: MinDistortion | None  # None: nothing may be revealed
    cost: str = "hill"  # the distortion that tells how important an entry is, see `hecompile.sparsity.importance`
    bits: int = 8  # of a revealed entry
    calibration: Calibration | None = None  # calls to measure with; None: those of the model's own sampler
    grouping: Grouping = field(default_factory=lambda: Grouping("channel"))  # the size of a tile is clamped to the picture

    @property
    def needs_weights(self) -> bool:
        """True if anything may be revealed, because runs of the model decide what is important."""
        return self.policy is not None and self.policy.budget != 0

    def run(self, program: ModelGraph) -> ModelGraph:
        if self.policy is None or self.policy.budget == 0:
            return program
        latent = from_latent(program)
        readers: dict[str, list[LayerShape]] = {}
        for shape in secret_shapes(program):
            if latent[shape.input] and not self.policy.guards(program, shape.input):
                readers.setdefault(shape.input, []).append(shape)
        readers = {name: shapes for name, shapes in readers.items() if _divides(self.grouping, shapes)}
        shares = _shares(program, {name: shapes[0] for name, shapes in readers.items()}, self)
        masks = {name: _encrypted(share, self.policy.budget) for name, share in shares.items()}
        new = [Reveal(name, masks[name], shares[name], self.bits) for name in masks if not masks[name].all()]
        read = {name: [shape.nodes[0] for shape in shapes] for name, shapes in readers.items()}
        return insert_reveals(program, new, read) if new else program

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        count = len(reveals(after))
        return f"{count} values are revealed in part" if count else "nothing is revealed"


def _encrypted(shares: Floats, budget: float) -> Mask:
    """Return the smallest mask of channels or tiles that keeps the budget, of the shape of `shares`. At least one is encrypted."""
    mask = select(shares.reshape(-1, 1, 1), budget).reshape(shares.shape)
    if not mask.any():
        mask.flat[np.argmax(shares)] = True
    return mask


def _divides(grouping: Grouping, readers: Sequence[LayerShape]) -> bool:
    """Return whether a value has several channels, or can be cut into several tiles for all layers that read it."""
    if grouping.granularity == "channel":
        return readers[0].geometry.channels > 1
    return all(cut_of(shape.geometry, grouping.tile) is not None for shape in readers)


def _sums(grouping: Grouping, geometry: Geometry, distortion: Floats) -> Floats:
    """Sum a distortion (C, H, W) over each channel, (C), or over each tile of all channels, (rows, columns)."""
    if grouping.granularity == "channel":
        by_channel: Floats = distortion.sum(axis=(1, 2))
        return by_channel
    tile = (min(grouping.tile[0], geometry.size[0]), min(grouping.tile[1], geometry.size[1]))
    by_tile: Floats = Grouping("tile", tile).sums(distortion).sum(axis=0)  # (C, rows, columns) before
    return by_tile


def _shares(program: ModelGraph, values: dict[str, LayerShape], choice: ExtractSparsity) -> dict[str, Floats]:
    """For every value, the share of its distortion that each channel or tile has: the mean over all calls and samples.

    The shares of a value add up to one. Raises `CompileError` for a value that is zero in every call.
    """
    from hecompile.calibration import from_sampler, watch

    measure, samples = distortion_function(choice.cost), {name: list[Floats]() for name in values}

    def measured(name: str, value: torch.Tensor) -> torch.Tensor:
        geometry = values[name].geometry
        pictures = replace(geometry, down=(1, 1)).to_picture(value.numpy())  # (E, C, H, W)
        for picture in pictures:
            distortion = _sums(choice.grouping, geometry, measure(picture.astype(np.float64)))
            if distortion.sum() > 0:
                samples[name].append(distortion / distortion.sum())
        return value

    watch(program, choice.calibration or from_sampler(program, samples=4), tuple(values), measured)
    silent = [name for name, shares in samples.items() if not shares]
    if silent:
        raise CompileError(f"calibration: {', '.join(silent)} are zero in every call, so no entry is more important than another")
    return {name: np.mean(shares, axis=0) for name, shares in samples.items()}
