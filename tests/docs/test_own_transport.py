"""examples/own_transport.py does what its page says of a transport: it trusts no reply, and tells a server that is gone."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

import hecompile
from hecompile.compiled import Compiled
from hecompile.errors import ProtocolError
from hecompile.runtime.transports.base import ServerGoneError, Transport
from tests.docs.blocks import ROOT
from tests.networks import tiny_inputs

EXAMPLE = ROOT / "examples" / "own_transport.py"


def through(*command: str) -> Transport:
    """The example's transport to this program."""
    transport: Transport = runpy.run_path(str(EXAMPLE))["PipeTransport"]([sys.executable, *command])
    return transport


def saying(reply: str) -> Transport:
    """The same to a program that reads one line, says this, and ends."""
    return through("-c", f"import sys; sys.stdin.buffer.readline(); sys.stdout.write({reply!r})")


@pytest.fixture
def artifact(tiny: Compiled) -> Path:
    assert tiny.artifact is not None
    return tiny.artifact


def test_a_model_gives_the_same_through_it(artifact: Path) -> None:
    with hecompile.load(artifact) as unet:
        expected = unet(**tiny_inputs())
    with hecompile.load(artifact, through(str(EXAMPLE), str(artifact / "server"))) as unet:
        assert torch.equal(unet(**tiny_inputs()), expected)
        assert unet.meter.requests > 0


def test_a_refusal_of_the_server_arrives_with_its_status(artifact: Path) -> None:
    with (
        through(str(EXAMPLE), str(artifact / "server")) as transport,
        pytest.raises(ProtocolError, match="serves artifact") as refusal,
    ):
        transport.send("0" * 64, "call_00", [b"body"], bytearray(10))
    assert refusal.value.status == 404


@pytest.mark.parametrize("said", ["", "rubbish\n", "[]\n", "{}\n", '{"bytes": "x", "refused": 0}\n'])
def test_a_server_that_ends_or_talks_rubbish_is_told(said: str) -> None:
    with saying(said) as transport, pytest.raises(ServerGoneError):
        transport.send("0" * 64, "call_00", [], bytearray(10))


@pytest.mark.parametrize("length", [9, 11, 1 << 40])
def test_a_reply_of_another_length_is_refused(length: int) -> None:
    head = f'{{"refused": 0, "bytes": {length}}}\n'
    with saying(head + "x" * min(length, 5000)) as transport, pytest.raises(ProtocolError, match="bytes, expected 10"):
        transport.send("0" * 64, "call_00", [], bytearray(10))


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 90
