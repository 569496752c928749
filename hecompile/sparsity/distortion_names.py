"""The names of the distortions in `importance`, for code that checks a name without importing what computes them."""

from __future__ import annotations

__all__ = ["OF_MODEL", "OF_SAMPLE", "distortion_names"]

OF_SAMPLE = ("hill", "hill-summed", "magnitude", "variance")
OF_MODEL = ("jacobian",)


def distortion_names() -> tuple[str, ...]:
    """Return all names that `--cost` may have."""
    return (*OF_SAMPLE, *OF_MODEL)
