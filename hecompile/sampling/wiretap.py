"""Keeps the bytes of the last request, which are all that a server gets of it, and makes a picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hecompile.buffers import Buffer
from hecompile.errors import CompileError
from hecompile.runtime.transports import HttpTransport

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Wiretap", "words_picture"]

CHANNELS = 3  # red, green and blue: a byte each


class Wiretap(HttpTransport):
    """Sends as `HttpTransport` does, and keeps the bytes of the last request, which are all that the server gets of it.

    Attributes:
        request: the last request's body: a header of a few bytes, then words of ciphertexts; empty before the first one.
        region: the region that it asked for.
    """

    request = b""
    region = ""

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        self.request, self.region = b"".join(bytes(piece) for piece in body), region
        super().send(digest, region, body, reply)


def words_picture(request: bytes, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The end of a request as the colours of a picture (height, width, 3): three bytes of ciphertext words a pixel, in order.

    Args:
        request: the bytes that a server got, as `Wiretap.request`.
        size: height and width in pixels.

    Raises:
        CompileError: if the request has fewer bytes than the picture.
    """
    import numpy as np

    height, width = size
    needed = height * width * CHANNELS
    if needed < 1 or len(request) < needed:
        raise CompileError(f"a request of {len(request)} bytes fills no picture of {height} x {width} pixels, which takes {needed}")
    return np.frombuffer(request[-needed:], np.uint8).reshape(height, width, CHANNELS)
