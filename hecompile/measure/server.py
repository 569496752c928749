"""Measures a server process that only echoes requests: its memory, and what requests and their bytes cost over loopback.

This module, when it is run as a script, is that server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer

if TYPE_CHECKING:
    from hecompile.runtime.transports import Transport

__all__ = ["Echo", "measure_server_process", "peak_mib", "process_seconds_of", "server_process"]

PAYLOAD, LARGE = 65_536, 8 << 20  # bytes of a usual request, and of one whose cost is mostly that of its bytes
LARGE_REQUESTS = 20
BETWEEN = 4 << 20  # bytes that the client touches between requests, about as many as by encrypting and decrypting


class Echo(RegionServer):
    """Answers every request with its own bytes."""

    max_batch = 1

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        return payload

    def request_bytes(self, batch: int) -> int:
        return LARGE


def peak_mib(pid: int) -> float:
    """The largest memory in MiB that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def process_seconds_of(pid: int) -> float:
    """The CPU seconds that another process has used so far, in all its threads."""
    import time

    return time.clock_gettime(~pid << 3 | 2)  # the id of its clock, as clock_getcpuclockid makes it


@dataclass(frozen=True)
class _Exchange:
    """What one request with its reply takes: the median of wall seconds, and the mean of CPU seconds of both sides."""

    wall_s: float
    client_s: float
    server_s: float


def measure_server_process() -> dict[str, float]:
    """Measure the fields of a profile that are about a server's process and HTTP.

    `base_mib` is its memory when it keeps as many answers as a server ever keeps.
    """
    from hecompile.runtime.serving.limits import Limits
    from hecompile.runtime.transports import HttpTransport

    with server_process([sys.executable, "-m", __name__]) as (server, url), HttpTransport(url) as transport:
        small = _exchanges(transport, server, PAYLOAD, Limits().kept_bytes // PAYLOAD)
        base_mib = peak_mib(server)
        large = _exchanges(transport, server, LARGE, LARGE_REQUESTS)
    more_bytes = 2 * (LARGE - PAYLOAD)
    client_byte_s = max(large.client_s - small.client_s, 0.0) / more_bytes
    server_byte_s = max(large.server_s - small.server_s, 0.0) / more_bytes
    return {
        "base_mib": base_mib,
        "request_us": max(small.wall_s - 2 * PAYLOAD * (client_byte_s + server_byte_s), 0.0) * 1e6,
        "client_request_us": max(small.client_s - 2 * PAYLOAD * client_byte_s, 0.0) * 1e6,
        "server_request_us": max(small.server_s - 2 * PAYLOAD * server_byte_s, 0.0) * 1e6,
        "client_byte_ns": client_byte_s * 1e9,
        "server_byte_ns": server_byte_s * 1e9,
    }


def _exchanges(transport: Transport, server: int, size: int, requests: int) -> _Exchange:
    """Measure requests of this size, after a few to warm up."""
    import time
    from statistics import median

    import numpy as np

    from hecompile.runtime.wire import pack_request

    body, reply, between = pack_request(1, [bytes(size)]), bytearray(size), np.zeros(BETWEEN, np.uint8)
    for _ in range(3):
        transport.send("idle", "echo", body, reply)
    walls, client_s, server_s = list[float](), 0.0, process_seconds_of(server)
    for _ in range(requests):
        between.sum()
        started, used = time.perf_counter(), time.thread_time()
        transport.send("idle", "echo", body, reply)
        client_s += time.thread_time() - used
        walls.append(time.perf_counter() - started)
    server_s = process_seconds_of(server) - server_s
    return _Exchange(median(walls), client_s / requests, server_s / requests)


@contextmanager
def server_process(command: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Run a server in a second process within the `with` block. Gives its process id, and the first line that it writes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.terminate()


def _serve() -> None:
    """Serve until terminated. The first line that it writes is its URL."""
    from hecompile.backends.bfv import server  # noqa: F401  (what a server of an artifact loads)
    from hecompile.backends.bfv.kernels import proved_kernel
    from hecompile.runtime.server import bind, serve_socket
    from hecompile.runtime.service import Service

    proved_kernel()
    listener = bind("127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    serve_socket(Service("idle", "idle", True, {"echo": Echo()}), listener)


if __name__ == "__main__":
    _serve()
