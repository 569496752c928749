"""Evaluates several elements of a batch at a time, in one process per core, since SEAL holds Python's interpreter lock.

Processes are forked for one request and end with it. They read the server's plaintexts and the session's keys without a copy, and
keep nothing. SEAL has no threads of its own.
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

_HEAD = struct.Struct("<HQ")  # in front of an answer: zero or the status of a refusal, and the length of the answer


def evaluated(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> list[bytes]:
    """Run the task on every piece and return its answers in order. Raises `ProtocolError` if the task does for a piece."""
    workers = min(len(pieces), len(os.sched_getaffinity(0)))
    if workers == 1:
        return [task(piece) for piece in pieces]
    answers = [task(pieces[0])]  # the processes inherit the plaintexts that it encodes
    shares = [range(1 + worker, len(pieces), workers) for worker in range(workers)]
    shares = [share for share in shares if share]
    processes = list[_Process]()
    try:
        for share in shares[1:]:
            processes.append(_start(task, [pieces[place] for place in share]))
        own = [task(pieces[place]) for place in shares[0]]
        by_share = [own, *[process.finish(len(share)) for process, share in zip(processes, shares[1:], strict=True)]]
    finally:
        for process in processes:
            process.end()
    placed = dict[int, bytes]()
    for share, results in zip(shares, by_share, strict=True):
        placed |= dict(zip(share, results, strict=True))
    return answers + [placed[place] for place in range(1, len(pieces))]


@dataclass(frozen=True)
class _Process:
    """A forked process, and the pipe through which it sends its answers."""

    identifier: int
    stream: BinaryIO

    def finish(self, count: int) -> list[bytes]:
        """Wait for the process's answers and return them.

        Raises:
            ProtocolError: if one of its tasks did.
            InternalError: if it ended with fewer than `count` answers.
        """
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
        """Close the pipe, stop the process if it still computes, and wait for its end."""
        self.stream.close()
        os.kill(self.identifier, signal.SIGKILL)  # the id cannot be another process's before the next line
        os.waitpid(self.identifier, 0)


def _start(task: Callable[[memoryview], bytes], pieces: Sequence[memoryview]) -> _Process:
    """Fork a process that writes the task's answers into a pipe, each after a `_HEAD`.

    Raises:
        ProtocolError: if no process can be forked.
    """
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
