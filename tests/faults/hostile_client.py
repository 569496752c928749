"""Meets every attack in a process of its own: what each one ended in, and how much memory all took. Prints one JSON object."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hecompile.measure.server import peak_mib
from hecompile.runtime.transports import HttpTransport
from tests.faults.hostile import ATTACKS, SIZE, UNREAD

TIMEOUT_S = 2.5


def outcome(url: str, ask: Callable[[HttpTransport], object]) -> dict[str, object]:
    """The kind of error, its text, and seconds."""
    started = time.monotonic()
    try:
        transport = HttpTransport(url, timeout_s=TIMEOUT_S, retry_s=0.5)
        with transport:
            ask(transport)
        kind, text = "none", ""
    except BaseException as error:
        kind, text = " ".join(ancestor.__name__ for ancestor in type(error).__mro__), str(error)
    return {"kind": kind, "text": text, "seconds": time.monotonic() - started}


def main(url: str) -> None:
    """All attacks on all three kinds of requests, several at a time."""
    asks: dict[str, Callable[[HttpTransport], object]] = {}
    for name in ATTACKS:
        asks[f"send {name}"] = lambda http, name=name: http.send(name, "region", [b"x" * 100, bytes(100)], bytearray(SIZE))  # type: ignore[misc]
        asks[f"greet {name}"] = lambda http, name=name: http.greet(name)  # type: ignore[misc]
        asks[f"keys {name}"] = lambda http, name=name: http.open_session(name, [bytes(100)])  # type: ignore[misc]
    large = b"x" * (20 << 20)
    for name in UNREAD:
        asks[f"send {name}"] = lambda http, name=name: http.send(name, "region", [large, large], bytearray(SIZE))  # type: ignore[misc]
    before = peak_mib(os.getpid())
    with ThreadPoolExecutor(40) as pool:
        outcomes = dict(zip(asks, pool.map(lambda ask: outcome(url, ask), asks.values()), strict=True))
    sys.stdout.write(json.dumps({"grown_mib": peak_mib(os.getpid()) - before, "outcomes": outcomes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
