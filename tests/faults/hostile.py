"""A server that answers every request with an attack: which one, the artifact's digest in the request's path says."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

SIZE = 1000  # bytes that the client expects
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % SIZE
CHUNKED = b"Transfer-Encoding: chunked\r\n"
Attack = Callable[[socket.socket], None]


@cache
def bomb() -> bytes:
    """300 kB that become 300 MiB."""
    return gzip.compress(bytes(300 << 20), 1)


def says(*pieces: bytes) -> Attack:
    """Bytes, then the connection's end."""
    return lambda connection: connection.sendall(b"".join(pieces))


def endless(start: bytes, piece: bytes, pause_s: float = 0.0) -> Attack:
    """A start, then a piece again and again until the client hangs up, or after a minute."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(start)
        stop = time.monotonic() + 60
        while time.monotonic() < stop:
            connection.sendall(piece)
            time.sleep(pause_s)

    return attack


def dripping(data: bytes, start: bytes = b"") -> Attack:
    """A start, then one byte a second."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(start)
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(1)

    return attack


def refusal(body: bytes, headers: bytes = b"", status: int = 422) -> Attack:
    return says(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers), body)


def encoded(start: bytes, encoding: bytes) -> Attack:
    """A body that becomes a thousand times longer."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(start + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(bomb())) + bomb())

    return attack


def lengths(*values: bytes, body: bytes = bytes(SIZE)) -> Attack:
    return says(OK, *(b"Content-Length: %s\r\n" % value for value in values), b"\r\n", body)


GOOD = OK + LENGTH + b"\r\n"
RANDOM = random.Random(0).randbytes(100_000)
FORBIDDEN = b"HTTP/1.1 422 No\r\n"
ERROR = b'{"error": "no"}'

ATTACKS: dict[str, Attack] = {
    "gzip-bomb": encoded(OK, b"gzip"),
    "gzip-bomb-in-a-refusal": encoded(FORBIDDEN, b"gzip"),
    "gzip-of-the-right-length": says(OK, LENGTH, b"Content-Encoding: gzip\r\n\r\n", bytes(SIZE)),
    "deflate": says(OK, LENGTH, b"Content-Encoding: deflate\r\n\r\n", bytes(SIZE)),
    "several-encodings": says(OK, LENGTH, b"Content-Encoding: identity, br\r\n\r\n", bytes(SIZE)),
    "rubbish-encoding-in-a-refusal": refusal(RANDOM[:900], b"Content-Encoding: gzip\r\n"),
    "endless-chunks": endless(OK + CHUNKED + b"\r\n", b"ffff\r\n" + bytes(0xFFFF) + b"\r\n"),
    "endless-chunks-of-a-byte": endless(OK + CHUNKED + b"\r\n", b"1\r\nx\r\n" * 1000),
    "endless-chunks-in-a-refusal": endless(FORBIDDEN + CHUNKED + b"\r\n", b"ffff\r\n" + bytes(0xFFFF) + b"\r\n"),
    "endless-trailers": endless(OK + CHUNKED + b"\r\n0\r\n", b"X: y\r\n" * 1000),
    "chunks-of-the-right-length": says(OK, CHUNKED, b"\r\n3e8\r\n", bytes(SIZE), b"\r\n0\r\n\r\n"),
    "chunks-and-a-length": says(OK, LENGTH, CHUNKED, b"\r\n3e8\r\n", bytes(SIZE), b"\r\n0\r\n\r\n"),
    "endless-body": endless(OK + b"\r\n", bytes(65536)),
    "endless-body-in-a-refusal": endless(FORBIDDEN + b"\r\n", bytes(65536)),
    "endless-body-of-a-redirect": endless(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", bytes(65536)),
    "dripping-body": dripping(bytes(SIZE), GOOD),
    "dripping-status-line": dripping(GOOD),
    "dripping-refusal": endless(b"HTTP/1.1 422 No\r\nContent-Length: 900\r\n\r\n", b"x", 1.0),
    "dripping-busy-refusal": endless(b"HTTP/1.1 503 No\r\nContent-Length: 900\r\n\r\n", b"x", 1.0),
    "dripping-headers": endless(OK, b"X: y\r\n", 1.0),
    "dripping-continues": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2),
    "endless-continues": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "endless-early-hints": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "endless-headers": endless(OK, b"".join(b"X-%d: y\r\n" % number for number in range(1000))),
    "endless-header-line": endless(OK + b"X: ", b"y" * 65536),
    "endless-folded-header": endless(OK + b"X: y\r\n", b" y\r\n" * 1000),
    "endless-status-line": endless(b"HTTP/1.1 200 ", b"y" * 65536),
    "endless-empty-lines": endless(b"", b"\r\n" * 1000),
    "endless-zeros": endless(b"", bytes(65536)),
    "shorter": lengths(b"999", body=bytes(999)),
    "longer": lengths(b"1001", body=bytes(1001)),
    "much-longer": endless(OK + b"Content-Length: 1000000000000\r\n\r\n", bytes(65536)),
    "more-than-announced": says(GOOD, bytes(SIZE + 500)),
    "endlessly-more-than-announced": endless(GOOD, bytes(65536)),
    "empty": lengths(b"0", body=b""),
    "no-length": lengths(),
    "two-lengths": lengths(b"1000", b"1001"),
    "two-equal-lengths": lengths(b"1000", b"1000"),
    "list-of-lengths": lengths(b"1000, 1000"),
    "negative-length": lengths(b"-1000"),
    "length-with-a-sign": lengths(b"+1000"),
    "length-with-an-underscore": lengths(b"1_000"),
    "hexadecimal-length": lengths(b"0x3e8"),
    "length-of-superscripts": lengths("\u00b9\u00b2".encode("latin-1")),
    "length-of-ten-to-the-30": lengths(b"1" + b"0" * 30),
    "length-of-10000-digits": lengths(b"1" * 10_000),
    "length-that-is-empty": lengths(b""),
    "folded-length": says(OK, b"Content-Length:\r\n 1000\r\n 1000\r\n\r\n", bytes(SIZE)),
    "length-with-a-zero-byte": lengths(b"10\x0000"),
    "deep-json": refusal(b"[" * 200_000),
    "deep-json-in-four-kilobytes": refusal(b'{"error":' * 400),
    "deep-json-in-a-reply": says(OK, b"Content-Length: %d\r\n\r\n" % (SIZE + 3000), b"[" * (SIZE + 3000)),
    "brackets-as-a-reply": says(GOOD, b"[" * SIZE),
    "a-number-of-4000-digits": refusal(b'{"error": ' + b"9" * 4000 + b"}"),
    "a-reason-that-is-no-text": refusal(b'{"error": {"a": [1, null, "\\ud800"]}}'),
    "a-reason-with-control-characters": refusal(b'{"error": "\\u001b[2J\\u0007\\r\\n' + b"x" * 3000 + b'"}'),
    "a-key-twice": refusal(b'{"error": "a", "error": "b"}'),
    "not-utf-8": refusal(b'{"error": "\xff\xfe"}'),
    "charset-idna": refusal(ERROR, b"Content-Type: application/json; charset=idna\r\n"),
    "charset-zip": refusal(ERROR, b"Content-Type: application/json; charset=zip_codec\r\n"),
    "charset-that-is-none": refusal(ERROR, b"Content-Type: application/json; charset=\x00\xff\r\n"),
    "unauthorized": refusal(ERROR, b"WWW-Authenticate: Basic realm=x\r\n", 401),
    "proxy-authentication": refusal(ERROR, b"Proxy-Authenticate: Basic realm=x\r\n", 407),
    "retry-after-rubbish": refusal(ERROR, b"Retry-After: " + b"9" * 5000 + b"\r\n", 503),
    **{f"redirect-{code}": refusal(b"", b"Location: http://127.0.0.1:1/\r\n", code) for code in (300, 301, 302, 303, 307, 308)},
    **{f"status-{code}": refusal(b"", b"Set-Cookie: a=b\r\n", code) for code in (101, 102, 201, 204, 205, 206, 304, 600, 999)},
    "status-0": refusal(b"", status=0),
    "status-of-letters": says(b"HTTP/1.1 abc OK\r\n\r\n"),
    "http-0.9": says(b"hello\r\n", bytes(SIZE)),
    "http-2": says(b"HTTP/2 200 OK\r\n", LENGTH, b"\r\n", bytes(SIZE)),
    "http-2-preface": says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http-9": says(b"HTTP/9.9 200 OK\r\n", LENGTH, b"\r\n", bytes(SIZE)),
    "tls-alert": says(b"\x15\x03\x01\x00\x02\x02\x16"),
    "garbage": says(RANDOM),
    "garbage-headers": says(OK, RANDOM, b"\r\n\r\n"),
    "closed-at-once": says(b""),
    "closed-in-the-head": says(OK, LENGTH[:-1]),
    "closed-in-the-body": says(GOOD, bytes(SIZE - 1)),
    "silent": lambda connection: time.sleep(30),
    "silent-in-the-body": endless(GOOD, b"", 1.0),
}  # fmt: skip
UNREAD = {  # attacks that begin before the request was read
    "never-reads": lambda connection: time.sleep(30),
    "refuses-and-closes": refusal(ERROR, status=413),
    "closes-unread": says(b""),
}


class Hostile:
    """What clients sent, and where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[bytes] = []  # heads


@contextmanager
def hostile_server() -> Iterator[Hostile]:
    """The server, until the block ends."""
    bomb()  # takes longer to make than a client waits
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    hostile = Hostile(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(hostile, connection), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield hostile
    finally:
        listener.close()


def _answer(hostile: Hostile, connection: socket.socket) -> None:
    """Read a request's head, and its body unless the attack does not, and attack."""
    with connection, suppress(OSError):
        connection.settimeout(60)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        hostile.requests.append(head)
        name = head.split(b"/")[3].split()[0].decode()
        if name in UNREAD:
            UNREAD[name](connection)
            return
        size = int(head.lower().split(b"content-length:")[1].split()[0])
        while len(body) < size:
            body += connection.recv(65536)
        ATTACKS[name](connection)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # so that what was sent is not lost to a reset
            pass
