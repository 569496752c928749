"""A link of a given rate and round trip between this machine's network namespaces: a server's side, and a client's.

The kernel's token bucket limits the rate in both directions. The round trip is made by a relay in the server's namespace, which
hands on every piece half a round trip after it came: not every kernel has `netem`.

`python -m benchmarks.whole.link LISTEN PORT TARGET DELAY_MS` is the relay.
"""

from __future__ import annotations

import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

__all__ = ["Link", "Namespace", "NoLinkError", "linked"]

PIECE = 1 << 18  # bytes
BURST = "256kb"
NAME, OUTER, INNER = "hecompile-link", "he-outer", "he-inner"
SERVER, CLIENT = "10.213.7.2", "10.213.7.1"


class NoLinkError(Exception):
    """This machine allows no namespaces, or no limit of a rate; with the reason."""


@dataclass(frozen=True)
class Link:
    """`1000mbit/5ms`: a rate in each direction, and a round trip."""

    mbps: int
    rtt_ms: float

    @classmethod
    def parse(cls, text: str) -> Link:
        match = re.fullmatch(r"(\d+)mbit/(\d+(?:\.\d+)?)ms", text)
        if match is None:
            raise SystemExit(f"a link is written as 1000mbit/5ms, not {text}")
        return cls(int(match[1]), float(match[2]))


@dataclass(frozen=True)
class Namespace:
    """Where the server is to run, and the address that its client uses."""

    prefix: tuple[str, ...]
    link: Link

    @contextmanager
    def relay(self, port: int) -> Iterator[str]:
        """The URL of a relay to a port of the namespace's loopback."""
        command = [*self.prefix, sys.executable, "-m", __name__, SERVER, str(port), str(self.link.rtt_ms / 2)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://{SERVER}:{int(process.stdout.readline())}"
            finally:
                process.kill()


@contextmanager
def linked(link: Link) -> Iterator[Namespace]:
    """A namespace behind a link. Raises `NoLinkError`."""
    inside = ("ip", "netns", "exec", NAME)
    limit = ("root", "tbf", "rate", f"{link.mbps}mbit", "burst", BURST, "latency", "50ms")
    with suppress(NoLinkError):
        _run("ip", "netns", "del", NAME)  # of a run that was killed
    try:
        _run("ip", "netns", "add", NAME)
        _run("ip", "link", "add", OUTER, "type", "veth", "peer", "name", INNER, "netns", NAME)
        _run("ip", "addr", "add", f"{CLIENT}/24", "dev", OUTER)
        _run("ip", "link", "set", OUTER, "up")
        _run(*inside, "ip", "addr", "add", f"{SERVER}/24", "dev", INNER)
        for device in (INNER, "lo"):
            _run(*inside, "ip", "link", "set", device, "up")
        _run("tc", "qdisc", "add", "dev", OUTER, *limit)
        _run(*inside, "tc", "qdisc", "add", "dev", INNER, *limit)
        yield Namespace(inside, link)
    finally:
        with suppress(NoLinkError):
            _run("ip", "netns", "del", NAME)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NoLinkError(f"there is no command {command[0]}") from error
    except subprocess.CalledProcessError as error:
        raise NoLinkError(f"{' '.join(command)}: {error.stderr.strip()}") from error


def _hand_on(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    """Every piece of one direction, late."""
    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=max(8, int(delay_s * 125e6 * 8 / PIECE)))

    def send() -> None:
        with suppress(OSError):
            while True:
                due, piece = pieces.get()
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                target.sendall(piece)

    threading.Thread(target=send, daemon=True).start()
    piece = b"first"
    while piece:
        try:
            piece = source.recv(PIECE)
        except OSError:
            piece = b""
        pieces.put((time.monotonic() + delay_s, piece))


def main() -> None:
    listen, port, delay_ms = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    listener = socket.create_server((listen, 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=_hand_on, args=(*pair, delay_ms / 1000), daemon=True).start()


if __name__ == "__main__":
    main()
