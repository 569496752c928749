"""A stopwatch for what this thread computes, and the prices that explain what it measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["explain", "thread_seconds"]

Array = npt.NDArray[Any]


def thread_seconds(task: Callable[[], object], runs: int) -> float:
    """CPU seconds of this thread, the median after a first run."""
    task()
    found = []
    for _ in range(runs):
        started = time.thread_time()
        task()
        found.append(time.thread_time() - started)
    return median(found)


def explain(amounts: Array, seconds: Array, sweeps: int = 20_000) -> Array:
    """The non-negative prices (n) for which amounts (m, n) @ prices is nearest to seconds (m) in proportion: least squares by
    coordinate descent."""
    rows = amounts / seconds[:, None]
    scale = np.where(rows.any(axis=0), rows.max(axis=0), 1.0)
    rows = rows / scale
    gram, right = rows.T @ rows, rows.sum(axis=0)
    prices = np.zeros(len(right))
    for _ in range(sweeps):
        for place in np.flatnonzero(np.diag(gram)):
            prices[place] = max(0.0, prices[place] + (right[place] - gram[place] @ prices) / gram[place, place])
    found: Array = prices / scale
    return found
