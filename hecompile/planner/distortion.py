"""What rounding a layer's weights and values does to the model's output, from measured sensitivities.

Rounding changes a value by a relative RMS error of r; the output then changes by s r, s being the sensitivity that calibration
measured at that value. Errors of many layers are independent, so their relative variances (s r)^2 add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile.calibration import Calibration, Statistics, collect, sensitivity
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import Stack

__all__ = ["LayerDistortion", "measure_distortions"]


@dataclass(frozen=True)
class LayerDistortion:
    """How a stack of layers distorts the output: relative variances, `values` per squared step that is one part of the range."""

    weights: float
    values: float

    def error_var(self, steps: float, share: float = 1.0, shown_steps: float = 1.0) -> float:
        """Int8 weights, this share of the values rounded to `steps` steps on either side of zero, the others to `shown_steps`."""
        return self.weights + self.values * (share / steps**2 + (1 - share) / shown_steps**2)


def measure_distortions(graph: ModelGraph, calibration: Calibration, stacks: list[Stack]) -> list[LayerDistortion]:
    """One measurement per stack: sensitivities of what it reads and of what it makes."""
    statistics = collect(graph, calibration, sorted({each.input for each in stacks}), bins=1)
    read = {name: sensitivity(graph, calibration, name) for name in {each.input for each in stacks}}
    found = []
    for each in stacks:
        made = sum(sensitivity(graph, calibration, name) ** 2 for name in each.names)
        found.append(LayerDistortion(made * each.rounding, read[each.input] ** 2 * _step_var(statistics, each.input)))
    return found


def _step_var(statistics: Statistics, name: str) -> float:
    """Variance of rounding to one step of the whole range, uniform over it, relative to the value's power."""
    found = statistics[name]
    power = float(found.variance[0] + found.mean[0] ** 2)
    peak = max(abs(float(found.low[0])), abs(float(found.high[0])))
    return peak**2 / 12 / power if power > 0 else float(np.float64(0.0))
