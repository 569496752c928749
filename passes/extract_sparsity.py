"""Which channels of a secret value may stay in clear: as many as a budget of distortion allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.ir.releases import Mask, Release, insert_releases, releases
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
    """Mark channels that the server may see: least important first, within the budget, the same for all steps. min-distortion only.

    %y = conv2d(%x)  ->  %r = release(%x, encrypted<32>, shares<32>, 8)  # coo<9 of 32 encrypted>; %y = conv2d(%r)
    one release per value, whatever reads it; inputs, outputs and what derives from conditions alone stay encrypted
    other policies   ->  unchanged
    """

    policy: MinDistortion | None  # None: nothing may be shown
    cost: str = "hill"  # how important an entry is, see hecompile.sparsity.importance
    bits: int = 8
    calibration: Calibration | None = None  # of the model's own sampler if None

    def run(self, program: ModelGraph) -> ModelGraph:
        if self.policy is None or self.policy.budget == 0:
            return program
        latent = from_latent(program)
        readers: dict[str, list[LayerShape]] = {}
        for shape in secret_shapes(program):
            if latent[shape.input] and shape.geometry.channels > 1 and not self.policy.guards(program, shape.input):
                readers.setdefault(shape.input, []).append(shape)
        shares = _shares(program, {name: shapes[0] for name, shapes in readers.items()}, self.cost, self.calibration)
        masks = {name: _encrypted(share, self.policy.budget) for name, share in shares.items()}
        new = [Release(name, masks[name], shares[name], self.bits) for name in masks if not masks[name].all()]
        read = {name: [shape.nodes[0] for shape in shapes] for name, shapes in readers.items()}
        return insert_releases(program, new, read) if new else program

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        count = len(releases(after))
        return f"{count} values are shown in part" if count else "nothing is shown"


def _encrypted(shares: Floats, budget: float) -> Mask:
    """The mask of fewest channels; one stays encrypted in any case: (C)."""
    mask = select(shares[:, None, None], budget, Grouping("channel"))[:, 0, 0]
    if not mask.any():
        mask[np.argmax(shares)] = True
    return mask


def _shares(program: ModelGraph, values: dict[str, LayerShape], cost: str, calibration: Calibration | None) -> dict[str, Floats]:
    """Each channel's mean share of its value's distortion over all calls and samples: (C), adding up to one."""
    from hecompile.calibration import from_sampler, watch

    measure, samples = cost_function(cost), {name: list[Floats]() for name in values}

    def show(name: str, value: torch.Tensor) -> torch.Tensor:
        geometry = values[name].geometry
        pictures = replace(geometry, down=(1, 1)).to_picture(value.numpy())  # (E, C, H, W)
        for picture in pictures:
            distortion = measure(picture.astype(np.float64)).sum(axis=(1, 2))
            if distortion.sum() > 0:
                samples[name].append(distortion / distortion.sum())
        return value

    watch(program, calibration or from_sampler(program, samples=4), tuple(values), show)
    silent = [name for name, found in samples.items() if not found]
    if silent:
        raise CompileError(f"calibration: {', '.join(silent)} are zero at every call: there is nothing to choose by")
    return {name: np.mean(found, axis=0) for name, found in samples.items()}
