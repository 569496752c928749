"""The names of the costs of `importance`, for those who judge a name and compute none."""

from __future__ import annotations

__all__ = ["OF_MODEL", "OF_SAMPLE", "cost_names"]

OF_SAMPLE = ("hill", "hill-summed", "magnitude", "variance")
OF_MODEL = ("jacobian",)


def cost_names() -> tuple[str, ...]:
    """Names for `--cost`."""
    return (*OF_SAMPLE, *OF_MODEL)
