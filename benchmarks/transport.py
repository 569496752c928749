"""The client's transport against httpx, as it was used before, over loopback to a server in another process: bytes per second and
CPU nanoseconds of the client per byte, up and down."""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx

from benchmarks.harness import arguments, finish, machine
from hecompile.buffers import Buffer
from hecompile.runtime.transports import HttpTransport

SIZES = {"100kB": 100_000, "1MB": 1_000_000, "30MB": 30_000_000}
SMALL = 100  # bytes of the other direction
LEAST_S = 2.0  # of measuring a size and a direction, and at least `--runs` requests each way

Send = Callable[[Sequence[Buffer], memoryview], None]


def _answer(connection: socket.socket) -> None:
    """Read requests, and answer with as many bytes as the region's name in the path says."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    scratch, data = bytearray(1 << 20), memoryview(bytes(max(SIZES.values())))
    with connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            head, _, begun = head.partition(b"\r\n\r\n")
            size = int(head.split(b" ")[1].rpartition(b"/")[2])
            left = int(head.lower().split(b"content-length:")[1].split()[0]) - len(begun)
            while left > 0:
                left -= connection.recv_into(scratch, min(left, len(scratch)))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size)
            connection.sendall(data[:size])


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _measured(sends: dict[str, Send], up: int, down: int, runs: int) -> dict[str, tuple[float, float, int]]:
    """Send `up` bytes and receive `down` with each transport in turn, at least `runs` times.

    Returns:
        By the transport's name: the median wall seconds of a request, its median CPU seconds, and how many were made.
    """
    half = up // 2
    body: list[Buffer] = [b"h" * 60, bytes(half), memoryview(bytes(up - half))]
    reply = memoryview(bytearray(down))
    for send in sends.values():
        send(body, reply)
    wall, cpu = ({name: list[float]() for name in sends} for _ in range(2))
    started, count = time.perf_counter(), 0
    while count < runs or (runs > 1 and time.perf_counter() - started < LEAST_S):
        count += 1
        for name, send in sends.items():
            begun, used = time.perf_counter(), time.process_time()
            send(body, reply)
            cpu[name].append(time.process_time() - used)
            wall[name].append(time.perf_counter() - begun)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name]), count) for name in sends}


def main() -> None:
    options = arguments(__doc__)
    sizes = {"100kB": SIZES["100kB"]} if options.smoke else SIZES
    runs = 1 if options.smoke else options.runs
    listener = socket.create_server(("127.0.0.1", 0))
    server = multiprocessing.Process(target=_serve, args=(listener,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    new, old = HttpTransport(url), httpx.Client(base_url=url, timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False)

    def by_new(body: Sequence[Buffer], reply: memoryview) -> None:
        new.send("digest", str(len(reply)), body, reply)

    def by_old(body: Sequence[Buffer], reply: memoryview) -> None:
        """The header and payload were joined, and the reply was one `bytes`."""
        response = old.request("POST", f"/v1/artifacts/digest/regions/{len(reply)}", content=b"".join(body))
        if response.status_code != 200 or len(response.content) != len(reply):
            raise SystemExit("the server did not answer")

    figures: dict[str, Any] = {"loopback": True, "least_s": LEAST_S, "httpx": httpx.__version__}
    for name, size in sizes.items():
        for direction, (up, down) in {"up": (size, SMALL), "down": (SMALL, size)}.items():
            for transport, (wall_s, cpu_s, count) in _measured({"new": by_new, "old": by_old}, up, down, runs).items():
                key = f"{transport}_{direction}_{name}"
                figures |= {f"{key}_mb_per_s": size / wall_s / 1e6, f"{key}_cpu_ns_per_byte": cpu_s / size * 1e9, f"{key}_n": count}
    new.close()
    old.close()
    server.terminate()
    finish(figures | machine(), options.json)


if __name__ == "__main__":
    main()
