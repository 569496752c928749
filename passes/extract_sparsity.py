"""Which channels, or tiles, of a secret value may stay in clear: as many as a budget of distortion allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.ir.releases import Mask, Release, insert_releases, releases
from hecompile.ir.tiles import cut_of
from hecompile.passes.base import Pass
from hecompile.policies.min_distortion import MinDistortion, from_latent
from hecompile.sparsity.importance import Floats, cost_function
from hecompile.sparsity.selection import Grouping, select

if TYPE_CHECKING:
    import torch

    from hecompile.calibration import Calibration

__all__ = ["ExtractSparsity"]


@dataclass(frozen=True)
class ExtractSparsity(Pass[ModelGraph, ModelGraph]):
    """Mark the least important values, within a budget, as what the server may see. Policy min-distortion only.

    %y = conv2d(%x)  ->  %r = release(%x, encrypted<32>, shares<32>, 8)  # coo<9 of 32 encrypted>; %y = conv2d(%r)
    by tiles         ->  %r = release(%x, encrypted<2x2>, shares<2x2>, 8)  # coo<16 of 64 places encrypted>
    one release per value, whatever reads it; inputs, outputs and what derives from conditions alone stay encrypted
    other policies   ->  unchanged
    """

    policy: MinDistortion | None  # None: nothing may be shown
    cost: str = "hill"  # how important an entry is, see hecompile.sparsity.importance
    bits: int = 8
    calibration: Calibration | None = None  # of the model's own sampler if None
    grouping: Grouping = field(default_factory=lambda: Grouping("channel"))  # a tile larger than a picture is as large as that

    @property
    def needs_weights(self) -> bool:
        """If anything may be shown: what matters is found by runs of the model."""
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
        new = [Release(name, masks[name], shares[name], self.bits) for name in masks if not masks[name].all()]
        read = {name: [shape.nodes[0] for shape in shapes] for name, shapes in readers.items()}
        return insert_releases(program, new, read) if new else program

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        count = len(releases(after))
        return f"{count} values are shown in part" if count else "nothing is shown"


def _encrypted(shares: Floats, budget: float) -> Mask:
    """The mask of fewest channels or tiles; one stays encrypted in any case: of the same shape."""
    mask = select(shares.reshape(-1, 1, 1), budget).reshape(shares.shape)
    if not mask.any():
        mask.flat[np.argmax(shares)] = True
    return mask


def _divides(grouping: Grouping, readers: Sequence[LayerShape]) -> bool:
    """Whether a value has several channels, or several tiles that are whole for all layers that read it."""
    if grouping.granularity == "channel":
        return readers[0].geometry.channels > 1
    return all(cut_of(shape.geometry, grouping.tile) is not None for shape in readers)


def _sums(grouping: Grouping, geometry: Geometry, distortion: Floats) -> Floats:
    """The distortion (C, H, W) of each channel (C), or of each tile (rows, columns) over all channels."""
    if grouping.granularity == "channel":
        by_channel: Floats = distortion.sum(axis=(1, 2))
        return by_channel
    tile = (min(grouping.tile[0], geometry.size[0]), min(grouping.tile[1], geometry.size[1]))
    by_tile: Floats = Grouping("tile", tile).sums(distortion).sum(axis=0)  # (C, rows, columns) before
    return by_tile


def _shares(program: ModelGraph, values: dict[str, LayerShape], choice: ExtractSparsity) -> dict[str, Floats]:
    """Each part's mean share of its value's distortion over all calls and samples, adding up to one."""
    from hecompile.calibration import from_sampler, watch

    measure, samples = cost_function(choice.cost), {name: list[Floats]() for name in values}

    def show(name: str, value: torch.Tensor) -> torch.Tensor:
        geometry = values[name].geometry
        pictures = replace(geometry, down=(1, 1)).to_picture(value.numpy())  # (E, C, H, W)
        for picture in pictures:
            distortion = _sums(choice.grouping, geometry, measure(picture.astype(np.float64)))
            if distortion.sum() > 0:
                samples[name].append(distortion / distortion.sum())
        return value

    watch(program, choice.calibration or from_sampler(program, samples=4), tuple(values), show)
    silent = [name for name, found in samples.items() if not found]
    if silent:
        raise CompileError(f"calibration: {', '.join(silent)} are zero at every call: there is nothing to choose by")
    return {name: np.mean(found, axis=0) for name, found in samples.items()}
