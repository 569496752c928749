"""Several elements of a batch at a time. SEAL holds the interpreter's lock, so each core gets a process.

Processes are forked for a request and end with it: they see the server's plaintexts and the session's keys without a copy, and
keep nothing. SEAL's library has no threads of its own.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence

from hecompile.backends.seal_files import FILE
from hecompile.errors import InternalError, ProtocolError

__all__ = ["evaluated"]


def evaluated(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> list[bytes]:
    """The task's answer for every piece, in order. Raises `ProtocolError` if a task does."""
    workers = min(len(pieces), len(os.sched_getaffinity(0)))
    if workers == 1:
        return [task(piece) for piece in pieces]
    answers = [task(pieces[0])]  # plaintexts that it encodes are there for all
    shares = [range(1 + worker, len(pieces), workers) for worker in range(workers)]
    started = [_start(task, [pieces[place] for place in share]) for share in shares[1:] if share]
    own = [task(pieces[place]) for place in shares[0]]
    found = [
        own,
        *[_finish(child, descriptor, len(share)) for (child, descriptor), share in zip(started, shares[1:], strict=False)],
    ]
    placed = {place: answer for share, some in zip(shares, found, strict=False) for place, answer in zip(share, some, strict=True)}
    return answers + [placed[place] for place in range(1, len(pieces))]


def _start(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> tuple[int, int]:
    """A process that writes its answers into a pipe: a status byte and a length before each."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        FILE.renew()
        os.close(reader)
        with os.fdopen(writer, "wb") as stream:
            for piece in pieces:
                try:
                    answer, bad = task(piece), 0
                except ProtocolError as error:
                    answer, bad = str(error).encode(), 1
                stream.write(struct.pack("<BQ", bad, len(answer)) + answer)
        status = 0
    finally:
        os._exit(status)


def _finish(child: int, descriptor: int, count: int) -> list[bytes]:
    """A process's answers."""
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    answers, start = list[bytes](), 0
    while len(answers) < count:
        if len(data) < start + 9:
            raise InternalError("a process of the ckks backend ended without an answer")
        bad, size = struct.unpack_from("<BQ", data, start)
        answer = data[start + 9 : start + 9 + size]
        if bad:
            raise ProtocolError(answer.decode())
        answers.append(answer)
        start += 9 + size
    return answers
