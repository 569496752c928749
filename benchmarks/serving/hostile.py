"""A process that holds a server's connections: bodies that arrive a byte a second, and connections on which nothing is sent.

`python -m benchmarks.serving.hostile HOST PORT IDLE` with the requests of the slow bodies on stdin, a line `{"path", "bytes"}`
each, until an empty line. Whatever the server closes is begun again. It ends with stdin, and says how often each kind was begun.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import suppress

REOPEN_S = 0.1  # from one connection's end to the next: an attack by slowness, not by a flood of connections
PACE_S = 1.0  # from byte to byte

BEGUN: Counter[str] = Counter()


async def hold(host: str, port: int, kind: str, head: bytes) -> None:
    """One connection after another; after a head, bytes of the body that it announces."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            BEGUN[kind] += 1
            end = asyncio.ensure_future(reader.read())  # of the server's words: it closed the connection
            end.add_done_callback(lambda end: end.cancelled() or end.exception())  # a reset is an end as any other
            writer.write(head)
            while not end.done():
                if head:
                    writer.write(b"\0")
                await asyncio.wait({end}, timeout=PACE_S if head else None)
            writer.close()
        await asyncio.sleep(REOPEN_S)


async def attack(host: str, port: int, idle: int, requests: list[dict[str, str]]) -> None:
    """Hold all connections until stdin ends."""
    heads = [
        f"POST {request['path']} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {request['bytes']}\r\n\r\n".encode()
        for request in requests
    ]
    held = [hold(host, port, "idle", b"") for _ in range(idle)] + [hold(host, port, "slow", head) for head in heads]
    tasks = [asyncio.ensure_future(connection) for connection in held]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


def main() -> None:
    requests = []
    while line := sys.stdin.readline().strip():
        requests.append(json.loads(line))
    asyncio.run(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), requests))
    sys.stdout.write(json.dumps(BEGUN) + "\n")


if __name__ == "__main__":
    main()
