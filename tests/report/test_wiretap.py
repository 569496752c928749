"""What a server saw: the very bytes that were sent, and a picture of them."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.errors import CompileError
from hecompile.runtime.transports import HttpTransport
from hecompile.sampling.wiretap import Wiretap, words_picture


def test_a_picture_shows_the_last_bytes_in_order() -> None:
    request = bytes(range(200))
    picture = words_picture(request, (4, 5))
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert picture.tobytes() == request[-60:]


@pytest.mark.parametrize(("size", "length"), [((4, 5), 59), ((0, 5), 100)])
def test_a_request_that_fills_no_picture_is_refused(size: tuple[int, int], length: int) -> None:
    with pytest.raises(CompileError, match="fills no picture"):
        words_picture(bytes(length), size)


def test_a_wiretap_sends_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(HttpTransport, "send", lambda self, digest, region, body, reply: sent.append((digest, region, list(body))))
    wire = Wiretap("http://127.0.0.1:1")
    assert wire.request == b""
    for number in range(2):
        wire.send("d", f"call_0{number}", [b"head", memoryview(b"words"), bytearray([number])], bytearray(3))
    assert sent[-1] == ("d", "call_01", [b"head", b"words", b"\x01"])
    assert wire.request == b"headwords\x01"
    assert wire.region == "call_01"
