"""Predicts what rounding a layer's weights and values does to the model's output, from measured sensitivities.

Rounding changes a value by a relative RMS error r. The output then changes by s r, where s is the sensitivity that calibration
measured at that value. Errors of different layers are taken as independent, so their relative variances (s r)^2 add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile.calibration import Calibration, Statistics, collect, sensitivity
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import LayerGroup

__all__ = ["LayerDistortion", "measure_distortions"]


@dataclass(frozen=True)
class LayerDistortion:
    """The distortion that a group of layers causes: `weights` is a relative output variance, `values` is one per squared rounding
    step, with the step as a fraction of the range."""

    weights: float
    values: float

    def error_var(self, steps: float, share: float = 1.0, revealed_steps: float = 1.0) -> float:
        """Return the relative output variance with int8 weights, if `share` of the inputs is rounded to 2 steps + 1 levels and the
        rest to 2 revealed_steps + 1 levels."""
        return self.weights + self.values * (share / steps**2 + (1 - share) / revealed_steps**2)


def measure_distortions(graph: ModelGraph, calibration: Calibration, groups: list[LayerGroup]) -> list[LayerDistortion]:
    """Measure the distortion of every group, from the sensitivities of what it reads and of what it computes."""
    statistics = collect(graph, calibration, sorted({group.input for group in groups}), bins=1)
    read = {name: sensitivity(graph, calibration, name) for name in {group.input for group in groups}}
    distortions = []
    for group in groups:
        made = sum(sensitivity(graph, calibration, name) ** 2 for name in group.names)
        distortions.append(LayerDistortion(made * group.rounding, read[group.input] ** 2 * _step_var(statistics, group.input)))
    return distortions


def _step_var(statistics: Statistics, name: str) -> float:
    """Return the variance of an error that is uniform over one step of the whole range, relative to the value's power."""
    value = statistics[name]
    power = float(value.variance[0] + value.mean[0] ** 2)
    peak = max(abs(float(value.low[0])), abs(float(value.high[0])))
    return peak**2 / 12 / power if power > 0 else float(np.float64(0.0))
