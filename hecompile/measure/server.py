"""Measuring a server process that has nothing to multiply: its memory, and a request over loopback.

Run as a module it is that server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hecompile.backends.region_server import RegionServer, Session

__all__ = ["Echo", "measure_server_process", "peak_mib", "server_process"]

PAYLOAD = 65_536  # bytes of a usual request


class Echo(RegionServer):
    """Answers what it was asked."""

    max_batch = 1

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        return payload

    def request_bytes(self, batch: int) -> int:
        return PAYLOAD


def peak_mib(pid: int) -> float:
    """The most memory that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure_server_process(requests: int = 50) -> dict[str, float]:
    """`base_mib` and `request_us` of a profile."""
    import time
    from statistics import median

    from hecompile.runtime.transports import HttpTransport
    from hecompile.runtime.wire import pack_request

    body, reply, found = pack_request(1, [bytes(PAYLOAD)]), bytearray(PAYLOAD), []
    with server_process([sys.executable, "-m", __name__]) as (server, url), HttpTransport(url) as transport:
        for _ in range(requests):
            started = time.perf_counter()
            transport.send("idle", "echo", body, reply)
            found.append(time.perf_counter() - started)
        return {"base_mib": peak_mib(server), "request_us": median(found) * 1e6}


@contextmanager
def server_process(command: Sequence[str]) -> Iterator[tuple[int, str]]:
    """A server in a second process: its id, and the first line that it writes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.terminate()


def _serve() -> None:
    """Serve until terminated; the address is the first line that is written."""
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
