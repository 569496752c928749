"""Whether masks of channels should follow the timestep: how much the ranking changes over a run of digits, and what masks leak.

For every value of the UNet that may be revealed in part, it measures the channels' shares of distortion at each step of a DDIM run.
From them it makes one mask for all steps, nested masks per step, free masks per step, and masks of each sample's own. "Shown" and
"leaked" are shares of the entries that layers read: revealed at a step on average, and revealed at some step of the run. Decision
21 reads these figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import numpy.typing as npt

from benchmarks.harness import arguments, finish, machine
from hecompile.calibration import Calibration, from_sampler, watch
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.models.digits import SCHEDULER
from hecompile.policies.min_distortion import MinDistortion, from_latent
from hecompile.predict import partitioned
from hecompile.sparsity.importance import distortion_function
from hecompile.sparsity.selection import mean_share, nested_masks, select, static_mask

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]


def values_of(graph: ModelGraph) -> dict[str, LayerShape]:
    """Return the values that the pass `extract-sparsity` may reveal in part, each with a layer that reads it."""
    latent, policy = from_latent(graph), MinDistortion(budget=0.5)
    return {
        shape.input: shape
        for shape in secret_shapes(graph)
        if latent[shape.input] and shape.geometry.channels > 1 and not policy.guards(graph, shape.input)
    }


def distortions(graph: ModelGraph, cost: str, steps: int, samples: int) -> dict[str, Floats]:
    """For each value, the distortion of every channel at every step of a run: (steps, samples, C, 1, 1)."""
    values, measure = values_of(graph), distortion_function(cost)
    by_value: dict[str, list[Floats]] = {name: [] for name in values}

    def show(name: str, value: Any) -> Any:
        pictures = replace(values[name].geometry, down=(1, 1)).to_picture(value.numpy()).astype(np.float64)
        by_value[name].append(np.stack([measure(picture).sum(axis=(1, 2), keepdims=True) for picture in pictures]))
        return value

    for call in from_sampler(graph, SCHEDULER, steps=steps, samples=samples):
        watch(graph, Calibration((call,)), tuple(values), show)
    return {name: np.stack(arrays) for name, arrays in by_value.items()}


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two arrays."""
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def free(distortion: Floats, tau: float) -> Masks:
    return np.stack([static_mask([*step], tau) for step in distortion])


def nested(distortion: Floats, tau: float) -> Masks:
    return np.stack([*nested_masks({place: [*step] for place, step in enumerate(distortion)}, tau).values()])


def static(distortion: Floats, tau: float) -> Masks:
    return np.stack([static_mask([*distortion.reshape(-1, *distortion.shape[2:])], tau)] * len(distortion))


def own(distortion: Floats, tau: float) -> Masks:
    """A mask for each sample at each step: (steps, samples, C, 1, 1)."""
    return np.stack([[select(sample, tau) for sample in step] for step in distortion])


def weighted(numbers: Sequence[float], weights: Sequence[int]) -> float:
    return float(np.average(numbers, weights=weights))


def compare(by_value: dict[str, Floats], entries: Sequence[int], tau: float) -> dict[str, dict[str, float]]:
    """The shares shown at a step and leaked in a run by each kind of mask; for the static one also its worst distortion."""
    kinds: dict[str, Callable[[Floats, float], Masks]] = {"static": static, "nested": nested, "free": free, "own": own}
    figures = {}
    for kind, choose in kinds.items():
        masks = [choose(distortion, tau) for distortion in by_value.values()]
        figures[kind] = {
            "shown": weighted([float((~mask).mean()) for mask in masks], entries),
            "leaked": weighted([float((~mask).any(axis=0).mean()) for mask in masks], entries),
        }
    worst = []
    for distortion in by_value.values():
        clear = ~static(distortion, tau)[0]
        worst.append(max(float(mean_share([*step])[clear].sum()) for step in distortion))
    figures["static"]["worst_step_distortion"] = max(worst)
    supports = [
        len({mask.tobytes() for mask in step}) / len(step) for distortion in by_value.values() for step in own(distortion, tau)
    ]
    figures["own"]["distinct_supports"] = float(np.mean(supports))
    return figures


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    steps, samples = (2, 2) if options.smoke else (20, 10)
    graph, figures = partitioned("digits"), dict[str, Any]()
    shapes = values_of(graph)
    entries = [shape.geometry.channels * shape.geometry.size[0] * shape.geometry.size[1] for shape in shapes.values()]
    for cost in ("magnitude", "hill"):
        by_value = distortions(graph, cost, steps, samples)
        correlations = [
            rank_correlation(mean_share([*step]), mean_share([*distortion.reshape(-1, *distortion.shape[2:])]))
            for distortion in by_value.values()
            for step in distortion
        ]
        figures[cost] = {
            "rank_correlation_mean": float(np.mean(correlations)),
            "rank_correlation_least": min(correlations),
            **{f"tau_{tau:g}": compare(by_value, entries, tau) for tau in (0.1, 0.3, 0.66)},
        }
    head = {"benchmark": "mask_steps", "smoke": options.smoke, "values": len(shapes), "steps": steps, "samples": samples}
    finish({**head, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
