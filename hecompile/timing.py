"""Stopwatches for what a thread or the process computes, and the prices that explain what they measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["explain", "process_seconds", "thread_seconds"]

Array = npt.NDArray[Any]


def thread_seconds(task: Callable[[], object], runs: int) -> float:
    """CPU seconds of this thread, the median after a first run."""
    return _seconds(task, runs, time.thread_time)


def process_seconds(task: Callable[[], object], runs: int) -> float:
    """CPU seconds of all threads of this process, the median after a first run."""
    return _seconds(task, runs, time.process_time)


def _seconds(task: Callable[[], object], runs: int, clock: Callable[[], float]) -> float:
    task()
    found = []
    for _ in range(runs):
        started = clock()
        task()
        found.append(clock() - started)
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
