"""The processes of `benchmarks/load.py`: a server whose memory is watched, its honest clients, and an attack."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Clients", "Server", "attacked"]

ROOT = Path(__file__).parent.parent.parent
SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]
SAMPLE_S = 0.5  # from one look at the server's memory to the next
STOP_S = 30.0  # that the server may take to end


class Server:
    """`hecompile serve` in a process of its own, whose resident memory is looked at twice a second."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [*SERVE, str(folder), "--port", "0", "--json", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.said: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.url: str = self.said["url"]
        self.pid = self._process.pid
        self._sizes, self._ended = list[tuple[float, float]](), threading.Event()
        self._watch = threading.Thread(target=self._sample)
        self._watch.start()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._sizes.append((time.monotonic(), self._held_mib()))

    def _held_mib(self) -> float:
        return sum(map(resident_mib, family(self._process.pid)))

    def memory(self, begin: float, end: float) -> float:
        """The median of what it held between two moments, in MiB. Raises `SystemExit` if the server has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"the server ended, with status {self._process.returncode}")
        return statistics.median([size for when, size in self._sizes if begin <= when <= end] or [self._held_mib()])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._watch.join()
        self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            yield from family(int(child))


def resident_mib(pid: int) -> float:
    """Memory of a process; none if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    except OSError:
        return 0.0


class Clients:
    """The honest clients of an artifact: a process that forks some for each load."""

    def __init__(self, folder: Path, cases: Path) -> None:
        """Neither needs to be there before the first load."""
        command = [sys.executable, "-m", "benchmarks.serving.honest", str(folder), str(cases)]
        alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=alone)

    def prepare(self, url: str, processes: int, concurrent: int) -> None:
        """Load one model for each run at a time."""
        self._ask({"url": url, "processes": processes, "concurrent": concurrent})

    def work(self, start: float, counted: float, end: float) -> dict[str, Any]:
        """Run a load until a moment and return what all clients counted; only answers from the moment `counted` on are timed."""
        return self._ask({"start": start, "counted": counted, "end": end})

    def _ask(self, words: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of clients ended before its load did")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()


@contextmanager
def attacked(server: Server, slow_bodies: int, idle_connections: int, sizes: dict[str, int]) -> Iterator[dict[str, int]]:
    """Within it the server is attacked; afterwards the dictionary tells how often each kind of connection was begun.

    Args:
        sizes: bytes of requests by region, which slow bodies announce in turn.
    """
    host, _, port = server.url.rpartition("/")[2].rpartition(":")
    command = [sys.executable, "-m", "benchmarks.serving.hostile", host, port, str(idle_connections)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    begun: dict[str, int] = {}
    assert process.stdin is not None
    try:
        regions = list(sizes)
        for place in range(slow_bodies):
            region = regions[place % len(regions)]
            path = f"/v1/artifacts/{server.said['artifact']}/regions/{region}"
            process.stdin.write(json.dumps({"path": path, "bytes": sizes[region]}) + "\n")
        process.stdin.write("\n")
        process.stdin.flush()
        yield begun
    finally:
        begun |= json.loads(process.communicate()[0] or "{}")
