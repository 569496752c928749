"""Calibration: recorded calls of a model, and statistics of its values over them. Passes fit and select by both."""

from __future__ import annotations

from hecompile.calibration.calls import Calibration, Call, from_sampler, load_calibration, save_calibration
from hecompile.calibration.statistics import NodeStatistics, Statistics, collect, sensitivity, timestep_bin, watch

__all__ = [
    "Calibration",
    "Call",
    "NodeStatistics",
    "Statistics",
    "collect",
    "from_sampler",
    "load_calibration",
    "save_calibration",
    "sensitivity",
    "timestep_bin",
    "watch",
]
