"""Several elements of a batch at a time. SEAL holds the interpreter's lock, so each core gets a process.

Processes are forked for a request and end with it: they see the server's plaintexts and the session's keys without a copy, and
keep nothing. SEAL's library has no threads of its own.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from hecompile.errors import InternalError, ProtocolError

__all__ = ["evaluated"]

_HEAD = struct.Struct("<HQ")  # of an answer: the status of a refusal, or zero, and its length


def evaluated(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> list[bytes]:
    """The task's answer for every piece, in order. Raises `ProtocolError` if a task does."""
    workers = min(len(pieces), len(os.sched_getaffinity(0)))
    if workers == 1:
        return [task(piece) for piece in pieces]
    answers = [task(pieces[0])]  # plaintexts that it encodes are there for all
    shares = [range(1 + worker, len(pieces), workers) for worker in range(workers)]
    shares = [share for share in shares if share]
    started = list[_Process]()
    try:
        for share in shares[1:]:
            started.append(_start(task, [pieces[place] for place in share]))
        own = [task(pieces[place]) for place in shares[0]]
        found = [own, *[process.finish(len(share)) for process, share in zip(started, shares[1:], strict=True)]]
    finally:
        for process in started:
            process.end()
    placed = {place: answer for share, some in zip(shares, found, strict=True) for place, answer in zip(share, some, strict=True)}
    return answers + [placed[place] for place in range(1, len(pieces))]


@dataclass(frozen=True)
class _Process:
    """A forked process and the pipe that its answers come through."""

    identifier: int
    stream: BinaryIO

    def finish(self, count: int) -> list[bytes]:
        """Its answers, when it has ended. Raises `ProtocolError` if one of its tasks did."""
        data = self.stream.read()
        answers, start = list[bytes](), 0
        while len(answers) < count:
            if len(data) < start + _HEAD.size:
                raise InternalError("a process of the ckks backend ended without an answer")
            status, size = _HEAD.unpack_from(data, start)
            start += _HEAD.size
            answer = data[start : start + size]
            if status:
                raise ProtocolError(answer.decode(), status)
            answers.append(answer)
            start += size
        return answers

    def end(self) -> None:
        """Close the pipe, and stop the process if it still computes."""
        self.stream.close()
        os.kill(self.identifier, signal.SIGKILL)  # it is ours until the next line, also if it has ended
        os.waitpid(self.identifier, 0)


def _start(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> _Process:
    """A process that writes its answers into a pipe: a refusal's status, or zero, and a length before each."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise ProtocolError(f"the server cannot start a process: {error.strerror}", status=503) from error
    if child:
        os.close(writer)
        return _Process(child, os.fdopen(reader, "rb"))
    ended = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "wb") as stream:
            for piece in pieces:
                try:
                    answer, status = task(piece), 0
                except ProtocolError as error:
                    answer, status = str(error).encode(), error.status
                stream.write(_HEAD.pack(status, len(answer)) + answer)
        ended = 0
    finally:
        os._exit(ended)
