"""A transport of your own: the server is another program, reached through its standard input and output instead of HTTP.

    server = PipeTransport(["ssh", "gpu-box", "python", "own_transport.py", "model.he/server"])
    pipe.unet = hecompile.load("model.he", server)

A message is a line of JSON and then as many bytes as it says. Run as a program, this file is the server's end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.service import load_service
from hecompile.runtime.transports.base import ServerGoneError, Transport


class PipeTransport(Transport):
    def __init__(self, command: Sequence[str]) -> None:
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        answer, target = self.ask("answer", [digest, region], body, memoryview(reply).nbytes), memoryview(reply).cast("B")
        if len(answer) != len(target):
            raise ProtocolError(f"region '{region}': a reply of {len(answer)} bytes, expected {len(target)}")
        target[:] = answer

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        return self.ask("open_session", [digest], body).decode()

    def close_session(self, digest: str, identifier: str) -> None:
        self.ask("close_session", [digest, identifier], [])

    def close(self) -> None:
        if self.server.stdin:
            self.server.stdin.close()  # the server ends when nothing more can come
        self.server.wait(10)

    def ask(self, call: str, names: list[str], body: Sequence[Buffer], most: int = 4096) -> bytes:
        """What the server answers, which is refused where it has more bytes than `most` and than an error's text may have."""
        assert self.server.stdin
        assert self.server.stdout
        size = sum(memoryview(part).nbytes for part in body)
        try:
            self.server.stdin.write(json.dumps({"call": call, "names": names, "bytes": size}).encode() + b"\n")
            self.server.stdin.writelines(body)
            self.server.stdin.flush()
            head = json.loads(self.server.stdout.readline(4096))
            answer = self.server.stdout.read(min(head["bytes"], max(most, 4096)))
        except (OSError, ValueError, KeyError, TypeError) as error:  # a broken pipe, or no line of JSON with a number of bytes
            raise ServerGoneError("the server's program ended") from error
        if head["refused"]:
            raise ProtocolError(answer.decode(), status=head["refused"])
        return answer


def serve(folder: Path, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    service = load_service(folder)
    while line := requests.readline(4096):
        head = json.loads(line)
        names: list[str] = head["names"]
        if not 0 <= head["bytes"] <= max(service.body_limit, service.key_limit):
            return  # no request of this artifact is so long
        body = requests.read(head["bytes"])
        refused, answer = 0, b""
        try:
            if head["call"] == "close_session":
                service.close_session(names[0], names[1])
            elif head["call"] == "open_session":
                answer = service.open_session(names[0], body).encode()
            else:
                answer = bytes(service.answer(names[0], names[1], body))
        except ProtocolError as error:
            refused, answer = error.status, str(error).encode()
        replies.write(json.dumps({"refused": refused, "bytes": len(answer)}).encode() + b"\n" + answer)
        replies.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
