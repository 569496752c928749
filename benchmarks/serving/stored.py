"""A client that sends requests which were encrypted before, and compares each reply with the one that is known.

`python -m benchmarks.serving.stored URL FOLDER CONNECTIONS COUNTED_S SECONDS`. FOLDER holds `N.request`, `N.reply` and `N.path`.
Requests go round for SECONDS; those that end in the last COUNTED_S are timed. A request is sent again while the server says that it
is busy, or closes the connection, for up to a minute; then it is lost. What was seen is printed as JSON.
"""

from __future__ import annotations

import http.client
import json
import resource
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Stored:
    """A request, and the bytes that answer it."""

    path: str
    request: bytes
    reply: bytes


@dataclass
class Seen:
    """What all connections saw together."""

    replies: int = 0
    wrong: int = 0
    repeated: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    ended: list[float] = field(default_factory=list)  # moments of the replies that count
    cpu_s: float = 0.0  # of this process while they count


def read(folder: Path) -> list[Stored]:
    return [
        Stored(path.read_text(), path.with_suffix(".request").read_bytes(), path.with_suffix(".reply").read_bytes())
        for path in sorted(folder.glob("*.path"))
    ]


class Connection:
    """One request after the other to one server."""

    def __init__(self, url: str, seen: Seen) -> None:
        self._address, self._seen = urlsplit(url), seen
        self._http: http.client.HTTPConnection | None = None

    def ask(self, stored: Stored) -> bytes | None:
        """The reply; None if the request is lost."""
        until, why = time.monotonic() + TIMEOUT_S, ""
        while time.monotonic() < until:
            try:
                status, body, pause_s = self._once(stored)
            except (OSError, http.client.HTTPException) as error:
                self._http, status, body, pause_s, why = None, 503, b"", 0.5, type(error).__name__
            if status == 200:
                return body
            why = why or f"{status}: {body[:200].decode(errors='replace')}"
            if status != 503:
                break
            self._seen.repeated += 1
            time.sleep(pause_s)
        self._seen.lost[why] += 1
        return None

    def _once(self, stored: Stored) -> tuple[int, bytes, float]:
        if self._http is None:
            self._http = http.client.HTTPConnection(str(self._address.hostname), self._address.port, timeout=2 * TIMEOUT_S)
        self._http.request("POST", stored.path, stored.request)
        response = self._http.getresponse()
        return response.status, response.read(), float(response.headers.get("Retry-After", 0.5))


def work(url: str, stored: list[Stored], first: int, counted: float, end: float, seen: Seen) -> None:
    connection, place = Connection(url, seen), first
    while time.monotonic() < end:
        request = stored[place % len(stored)]
        place += 1
        if (reply := connection.ask(request)) is not None:
            now = time.monotonic()
            seen.replies += 1
            seen.wrong += reply != request.reply
            if counted <= now < end:
                seen.ended.append(now)


def main() -> None:
    url, folder, connections, counted_s, seconds = sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:])
    stored, seen = read(folder), Seen()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=work, args=(url, stored, place, end - counted_s, end, seen)) for place in range(int(connections))
    ]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, end - counted_s - time.monotonic()))
    before = _cpu_s()
    time.sleep(max(0.0, end - time.monotonic()))
    seen.cpu_s = _cpu_s() - before
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(asdict(seen)) + "\n")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
