"""States in one sentence whether it pays to send a model's work to a server."""

from __future__ import annotations

import math

from hecompile.planner.plan import Prediction

__all__ = ["verdict", "verdict_of"]

EVEN = (0.95, 1.05)  # between these, a ratio counts as one
NEARLY = 0.05  # a later call whose ratio differs by less than this share is not mentioned separately


def verdict_of(prediction: Prediction) -> str:
    """Return the verdict on a predicted model, for a call alone, or for the first and the later calls of a run."""
    runs = prediction.later != prediction.total
    return verdict(prediction.offload_ratio, prediction.later_offload_ratio if runs else None)


def verdict(first: float, later: float | None = None) -> str:
    """Compare the client's CPU time with running the model alone, and say whether a server pays.

    Args:
        first: the ratio of these times for a call alone, or for the first call of a run.
        later: the ratio for every other call of a run, if it differs.
    """
    if not math.isfinite(first):
        return "running this model alone costs nothing: there is nothing to gain"
    if (later is None or EVEN[0] < later < EVEN[1]) and EVEN[0] < first < EVEN[1]:
        return "the client would spend about what running alone costs: for its sake there is no need of a server"
    if later is None or abs(first - later) < NEARLY * first:
        return f"the client would spend {_share(first)} what running alone costs: {_ending(first)}"
    both = (
        f"the client would spend {_share(first)} what running alone costs in the first call of a run, "
        f"and {_share(later)} {'it ' if later < 1 else ''}in every later one"
    )
    if (first < 1) == (later < 1):
        return f"{both}: {_ending(later)}"
    if later < 1:
        calls = math.ceil((first - later) / (1 - later))
        return f"{both}: it pays in runs of {calls} calls or more"
    return f"{both}: it pays for calls alone, not for runs"


def _share(ratio: float) -> str:
    """Return a ratio in words: `0.7 of`, `13 times`."""
    text = f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.095 else f"{ratio:.1g}"
    return f"{text} of" if ratio < 1 and float(text) < 1 else f"{text} times"


def _ending(ratio: float) -> str:
    """Return the conclusion from a ratio."""
    if ratio >= 1:
        return "this model is cheaper to run at home"
    return f"it saves the client {1 - ratio:.0%} of the work"
