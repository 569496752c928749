"""Measures CPU seconds of a thread or a process, records the spans of a call, and fits prices to measured times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Part", "Span", "explain", "process_seconds", "thread_seconds"]

Array = npt.NDArray[Any]
Part = Literal["local", "encrypt", "exchange", "server", "decrypt"]


@dataclass(frozen=True)
class Span:
    """When one part of a call ran, in seconds on the clock of `time.perf_counter`.

    `local` is a region of the client's own, `encrypt` and `decrypt` are the client's work on a request and its reply, `exchange` is
    the time from sending a request to having its reply, and `server` the part of it in which the server computes, where that is
    known.
    """

    region: str
    part: Part
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """The length of the span in seconds."""
        return self.end_s - self.start_s


def thread_seconds(task: Callable[[], object], runs: int) -> float:
    """Return the CPU seconds that a task takes in this thread: the median of `runs` runs, after one that is not counted."""
    return _seconds(task, runs, time.thread_time)


def process_seconds(task: Callable[[], object], runs: int) -> float:
    """Return the CPU seconds that a task takes in all threads: the median of `runs` runs, after one that is not counted."""
    return _seconds(task, runs, time.process_time)


def _seconds(task: Callable[[], object], runs: int, clock: Callable[[], float]) -> float:
    task()
    times = []
    for _ in range(runs):
        started = clock()
        task()
        times.append(clock() - started)
    return median(times)


def explain(amounts: Array, seconds: Array, sweeps: int = 20_000) -> Array:
    """Return the prices (n), none negative, for which amounts (m, n) @ prices has the least relative squared error from seconds
    (m).

    They are found by coordinate descent.
    """
    rows = amounts / seconds[:, None]
    scale = np.where(rows.any(axis=0), rows.max(axis=0), 1.0)
    rows = rows / scale
    gram, right = rows.T @ rows, rows.sum(axis=0)
    prices = np.zeros(len(right))
    for _ in range(sweeps):
        for place in np.flatnonzero(np.diag(gram)):
            prices[place] = max(0.0, prices[place] + (right[place] - gram[place] @ prices) / gram[place, place])
    result: Array = prices / scale
    return result
