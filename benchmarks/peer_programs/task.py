"""What the programs share: a convolution that comes as JSON on standard input, stopwatches, and a row as the last line.

Every program has two sides that exchange bytes: `encrypt` and `decrypt` are the client's, `evaluate` the server's. Seconds are CPU
seconds of all threads of the process.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

STARTED = time.process_time()
ENOUGH_S, MOST = 0.5, 100  # runs of milliseconds are repeated for so long, and at most so often


@dataclass(frozen=True)
class Task:
    """A convolution 3x3 with padding 1 and its exact result, in integers."""

    shape: tuple[int, int, int]  # input channels, output channels, side
    values: npt.NDArray[Any]  # (C, side, side)
    weights: npt.NDArray[Any]  # (O, C, 3, 3)
    sums: npt.NDArray[Any]  # (O, side, side)
    runs: int  # at least one is done
    budget_s: float  # of CPU: no run is started after that

    @property
    def bound(self) -> int:
        """No sum is larger, whatever the values within their range."""
        return int(np.abs(self.weights).sum(axis=(1, 2, 3)).max() * np.abs(self.values).max())

    def part(self, outputs: int) -> Task:
        """The first outputs alone."""
        channels, _, side = self.shape
        shape = (channels, outputs, side)
        return Task(shape, self.values, self.weights[:outputs], self.sums[:outputs], self.runs, self.budget_s)


def read() -> Task:
    """The task on standard input."""
    told = json.load(sys.stdin)
    data = np.load(told["data"])
    return Task(tuple(told["shape"]), data["values"], data["weights"], data["sums"], told["runs"], told["budget_s"])


def size(message: Any) -> int:
    """Bytes of a message: of one string or of many. What is no string has none."""
    if isinstance(message, list | tuple):
        return sum(map(size, message))
    return len(message) if isinstance(message, bytes) else 0


def same(request: Any) -> Any:
    """What a server receives where nothing is to be done ahead of the outputs."""
    return request


def measure(
    task: Task,
    encrypt: Callable[[], Any],
    evaluate: Callable[[Any], Any],
    decrypt: Callable[[Any], Any],
    receive: Callable[[Any], Any] = same,
    times: float = 1,
    wrong: Callable[[Any], float] | None = None,
) -> dict[str, Any]:
    """Medians of all sides after a first run, which counts where it takes the budget alone. `times` scales what grows with outputs;
    `wrong` is the largest error of a result, by default against the task's sums."""
    setup_s, taken = time.process_time() - STARTED, list[list[float]]()
    while len(taken) <= task.runs or (len(taken) <= MOST and time.process_time() - STARTED - setup_s < ENOUGH_S):
        marks = [time.process_time()]
        request = encrypt()
        marks.append(time.process_time())
        received = receive(request)
        marks.append(time.process_time())
        reply = evaluate(received)
        marks.append(time.process_time())
        result = decrypt(reply)
        marks.append(time.process_time())
        del received
        taken.append([after - before for before, after in pairwise(marks)])
        if marks[-1] - STARTED - setup_s > task.budget_s:
            break
    counted = taken[1:] or taken
    client = [encrypt_s + decrypt_s * times for encrypt_s, _, _, decrypt_s in counted]
    server = [receive_s + evaluate_s * times for _, receive_s, evaluate_s, _ in counted]
    error = wrong(result) if wrong else float(np.abs(result - task.sums).max())
    return {
        "client_s": statistics.median(client),
        "server_s": statistics.median(server),
        "all_s": statistics.median(map(sum, zip(client, server, strict=True))),
        "setup_s": setup_s,
        "runs": len(counted),
        "up_bytes": size(request),
        "down_bytes": round(size(reply) * times),
        "exact": error == 0,
        "largest_error": error,
        "largest_sum": int(np.abs(task.sums).max()),
    }


def write(row: dict[str, Any]) -> None:
    """The row as the last line."""
    sys.stdout.write("\n" + json.dumps(row) + "\n")
    sys.stdout.flush()
