"""Bins of timesteps: whatever is "per timestep" (statistics, masks, coefficients) is a table over them, looked up by t."""

from __future__ import annotations

__all__ = ["TIMESTEP_BINS", "TRAIN_STEPS", "timestep_bin"]

TIMESTEP_BINS, TRAIN_STEPS = 20, 1000


def timestep_bin(t: float, bins: int = TIMESTEP_BINS) -> int:
    """The bin of a timestep in [0, 1000); what lies outside belongs to the outermost."""
    return int(min(max(t * bins // TRAIN_STEPS, 0), bins - 1))
