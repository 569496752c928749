"""Which channels of a secret value may stay in clear: as many as a budget of distortion allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph, copy_module, info, set_info
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.ir.ops import RELEASE
from hecompile.passes.base import Pass
from hecompile.policies.min_distortion import MinDistortion, from_latent
from hecompile.sparsity.importance import Floats, cost_function
from hecompile.sparsity.selection import Grouping, select

if TYPE_CHECKING:
    import torch
    from torch import fx

    from hecompile.calibration import Calibration

__all__ = ["ExtractSparsity"]


@dataclass(frozen=True)
class ExtractSparsity(Pass[ModelGraph, ModelGraph]):
    """Mark channels that the server may see: least important first, within the budget, the same for all steps. min-distortion only.

    %y = conv2d(%x)  ->  %r = release(%x, encrypted<32>, shares<32>, 8); %y = conv2d(%r)
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
        chosen = {name: (masks[name], shares[name]) for name in masks if not masks[name].all()}
        return _with_releases(program, chosen, readers, self.bits) if chosen else program

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        nodes = [node for node in after.nodes if str(node.target) == RELEASE]
        return f"{len(nodes)} values are shown in part" if nodes else "nothing is shown"


def _encrypted(shares: Floats, budget: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
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


def _with_releases(
    program: ModelGraph,
    chosen: dict[str, tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], Floats]],
    readers: dict[str, list[LayerShape]],
    bits: int,
) -> ModelGraph:
    """A copy in which the layers read their values through a release."""
    import torch

    from hecompile.ir import own_ops as own_ops  # makes the operator known

    module = copy_module(program.graph_module)
    graph = module.graph
    nodes = {node.name: node for node in graph.nodes}
    for name, (mask, shares) in chosen.items():
        value = nodes[name]
        constants: list[fx.Node] = []
        with graph.inserting_before(value.next):
            for label, tensor in (("encrypted", torch.from_numpy(mask)), ("shares", torch.from_numpy(shares).float())):
                module.register_buffer(f"{name}_{label}", tensor)
                constants.append(graph.get_attr(f"{name}_{label}"))
                dtype = str(tensor.dtype).removeprefix("torch.")
                set_info(constants[-1], replace(info(value), shape=tuple(tensor.shape), dtype=dtype, secret=False))
            release = graph.call_function(torch.ops.hecompile.release.default, (value, *constants, bits))
        release.name = f"{name}_release"
        set_info(release, info(value))
        for shape in readers[name]:
            nodes[shape.nodes[0]].replace_input_with(value, release)
    module.recompile()
    return replace(program, graph_module=module)
