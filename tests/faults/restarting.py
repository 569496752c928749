"""A server process that is killed and started again at random moments of a client's run."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]


class RestartingServer:
    """`hecompile serve` of an artifact. Between `disturb` and `settle` it dies (SIGKILL) within chosen requests of a client."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        self._process = self._started()
        self._moments: dict[int, float] = {}
        self._timers: list[threading.Timer] = []
        self._lock, self._requests, self.kills = threading.Lock(), 0, 0

    def _started(self) -> subprocess.Popen[str]:
        """A process that listens, on the port of the one before it."""
        command = [*SERVE, str(self._folder), "--port", str(self._port), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        self.url = json.loads(process.stdout.readline())["url"]
        self._port = int(self.url.rpartition(":")[2])
        return process

    def disturb(self, requests: int, restarts: int, request_s: float, seed: int) -> None:
        """Choose after which of a run's requests the server dies, and how many of the next one's `request_s` seconds later."""
        generator = random.Random(seed)
        self._requests, self.kills = 0, 0
        self._moments = {
            place: generator.uniform(0, request_s) for place in generator.sample(range(1, requests * 9 // 10), restarts)
        }

    def observe(self, region: str) -> None:
        """Called after each of the client's requests (`Meter.observers`)."""
        self._requests += 1
        if self._requests in self._moments:
            timer = threading.Timer(self._moments[self._requests], self._restart)
            self._timers.append(timer)
            timer.start()

    def settle(self) -> None:
        """Wait until the last restart is over."""
        for timer in self._timers:
            timer.join()
        self._timers.clear()

    def _restart(self) -> None:
        with self._lock:
            self._process.kill()
            self._process.communicate()
            self.kills += 1
            self._process = self._started()

    def __enter__(self) -> RestartingServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.settle()
        self._process.kill()
        self._process.communicate()
