"""Bins of timesteps. What differs from timestep to timestep (statistics, masks, coefficients) has one row per bin."""

from __future__ import annotations

__all__ = ["TIMESTEP_BINS", "TRAIN_STEPS", "timestep_bin"]

TIMESTEP_BINS, TRAIN_STEPS = 20, 1000


def timestep_bin(t: float, bins: int = TIMESTEP_BINS) -> int:
    """Return the number of the bin of a timestep in [0, 1000). Other timesteps belong to the first or last bin."""
    return int(min(max(t * bins // TRAIN_STEPS, 0), bins - 1))
