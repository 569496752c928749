"""Clients that behave badly towards a real server, by plain sockets; and servers of stand-in regions to try them on."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.runtime.server import bind, serve_socket
from hecompile.runtime.service import Service
from hecompile.runtime.serving.client_identity import Tokens
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.wire import pack_request

__all__ = [
    "DIGEST",
    "Echo",
    "Held",
    "answer",
    "ask",
    "closed_within",
    "connect",
    "good_request",
    "head",
    "metric",
    "rss_mib",
    "served",
    "serving",
    "until",
]

DIGEST = "0" * 64
SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]


class Echo(RegionServer):
    """Answers what it was asked, after some seconds, and counts."""

    max_batch = 1

    def __init__(self, seconds: float = 0.0, size: int = 4) -> None:
        self.seconds, self.size = seconds, size
        self.evaluated = 0
        self.started = threading.Event()

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        self.evaluated += 1
        self.started.set()
        time.sleep(self.seconds)
        return payload

    def request_bytes(self, batch: int) -> int:
        return self.size


class Held(Echo):
    """Answers what it was asked once it is released, whatever time that takes; `payloads` are what it was asked, in order."""

    def __init__(self, size: int = 4) -> None:
        super().__init__(size=size)
        self.released, self.payloads = threading.Event(), list[bytes]()

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        self.payloads.append(bytes(payload))
        self.evaluated += 1
        self.started.set()
        assert self.released.wait(60), "never released"
        return payload


@contextmanager
def serving(
    service: Service, limits: Limits | None = None, tokens: Tokens | None = None, proxies: Sequence[str] = ()
) -> Iterator[tuple[str, int]]:
    """A server of this process, in a thread that ends with it; its address."""
    listener = bind("127.0.0.1", 0)
    address = listener.getsockname()
    threading.Thread(target=serve_socket, args=(service, listener, limits, tokens, proxies), daemon=True).start()
    yield address


@contextmanager
def served(
    folder: Path, *options: str, descriptors: int | None = None
) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str], Path]]:
    """`hecompile serve` in a process of its own, which may open so many files: its address, the process, and what it logs."""
    log = folder.parent / f"stderr-{time.monotonic_ns()}.txt"

    def allow() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with log.open("w") as errors:
        process = subprocess.Popen(
            [*SERVE, str(folder), "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=allow,
        )
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield ("127.0.0.1", int(url.rpartition(":")[2])), process, log
        finally:
            process.kill()
            process.communicate()


def connect(address: tuple[str, int], seconds: float = 30.0) -> socket.socket:
    """A connection that waits so long for anything."""
    return socket.create_connection(address, timeout=seconds)


def head(region: str, length: int | None, digest: str = DIGEST, *more: str) -> bytes:
    """The header of a request; without a length it comes in chunks."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST /v1/artifacts/{digest}/regions/{region} HTTP/1.1", "Host: here", framing, *more]
    return "\r\n".join([*lines, "", ""]).encode()


def good_request(region: str, payload: bytes = b"good", *more: str) -> bytes:
    """A whole request to a stand-in region."""
    body = b"".join(pack_request(1, [payload]))
    return head(region, len(body), DIGEST, *more) + body


def ask(address: tuple[str, int], request: bytes, seconds: float = 30.0) -> tuple[int, bytes]:
    """Send a request on a connection of its own: the status and everything that came."""
    with connect(address, seconds) as connection:
        connection.sendall(request)
        return answer(connection)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the bytes of one answer; 0 if the connection ends without one."""
    came = b""
    try:
        while b"\r\n\r\n" not in came or len(came) < _length(came):
            piece = connection.recv(1 << 16)
            if not piece:
                break
            came += piece
    except ConnectionError:
        pass
    return (int(came.split()[1]) if came.startswith(b"HTTP/1.1 ") else 0), came


def _length(came: bytes) -> int:
    match = re.search(rb"content-length: (\d+)", came, re.I)
    return came.index(b"\r\n\r\n") + 4 + (int(match[1]) if match else 0)


def closed_within(connections: Sequence[socket.socket], seconds: float) -> int:
    """How many of them the server closes in this time."""
    deadline, closed = time.monotonic() + seconds, 0
    for connection in connections:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            while connection.recv(1 << 16):
                pass
            closed += 1
        except ConnectionError:
            closed += 1
        except TimeoutError:
            continue
    return closed


def metric(address: tuple[str, int], name: str, token: str = "") -> float:
    """A number of the server's metrics, over all labels."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    text = urlopen(Request(f"http://{address[0]}:{address[1]}/metrics", headers=headers), timeout=30).read().decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def rss_mib(process: int) -> float:
    """Memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
