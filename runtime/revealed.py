"""What a request reveals, read from its bytes as any server could read them. Ciphertext words stay unread."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hecompile.artifact import Manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.bfv.messages import FIRST, core_layout, layer_sizes, mode_bytes
from hecompile.backends.bfv.program import region_program
from hecompile.backends.bfv.revealed import unpack_revealed
from hecompile.backends.sampler_step.program import HEADER_BYTES, sampler_step_program
from hecompile.backends.words import unpack_signed
from hecompile.ir.halves import ClientHalf
from hecompile.runtime.wire import unpack_request

__all__ = ["RevealedChannels", "RevealedStep", "first_revealing", "half_of", "revealed_channels", "revealed_step"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class RevealedChannels:
    """The channels of one layer's input that a request reveals.

    Attributes:
        value: name of that input in the plan.
        channels: numbers of the channels that are revealed, of `count` in all.
        integers: their rounded entries, (pictures of the batch, revealed channels, height, width), without the scale that would
            make them values. A layer with a stride has several smaller channels for each, one after the other.
    """

    value: str
    channels: tuple[int, ...]
    count: int
    integers: Integers


@dataclass(frozen=True, eq=False, repr=False)
class RevealedStep:
    """The entries of latent and noise prediction that a request for a sampler's step reveals.

    Attributes:
        f, g: the step's factors as integers: the server computes f * sample + g * noise.
        sample, noise: rounded entries in the order of the mask, without the scale that would make them values.
    """

    f: int
    g: int
    sample: Integers
    noise: Integers


def half_of(artifact: Path, manifest: Manifest, region: str) -> ClientHalf:
    """The client's half of a region of an artifact. Raises `ProtocolError` if it is not what its checksum says."""
    return read_client_half(artifact, manifest.files, f"client/{region}")


def first_revealing(artifact: Path, manifest: Manifest) -> str:
    """The region that is the first of a call, by the plan, to reveal channels of its input; empty if none does.

    Raises:
        ProtocolError: if a half is not what its checksum says.
    """
    for step in manifest.plan.steps:
        if step.kind == "call":
            layers = region_program(half_of(artifact, manifest, step.region)).body.layers
            if any(layer.split.revealed for layer in layers):
                return step.region
    return ""


def revealed_channels(half: ClientHalf, body: bytes) -> list[RevealedChannels]:
    """What a request to a region of `bfv` reveals: one record for each layer whose input has revealed channels, in order.

    Args:
        half: the client's half of the region that was asked.
        body: the request, its header included.

    Raises:
        ProtocolError: if the request or the half is malformed.
    """
    program = region_program(half)
    batch, _, payload = unpack_request(body)
    start = mode_bytes(program)
    mode = payload[0] if start else FIRST
    records = []
    for layer in program.body.layers:
        size, split = layer_sizes(layer, core_layout(layer, batch), batch, mode), layer.split
        if split.revealed:
            part = payload[start + size.up - size.up_revealed : start + size.up]
            records.append(RevealedChannels(layer.input, split.revealed, split.channels, unpack_revealed(part, layer, batch)))
        start += size.up
    return records


def revealed_step(half: ClientHalf, payload: bytes) -> RevealedStep:
    """What the payload of a request for a sampler's step reveals.

    Raises:
        ProtocolError: if the half is malformed, or the payload is shorter than it says.
    """
    body = sampler_step_program(half).body
    f, g, clear = struct.unpack_from("<iiI", payload)
    size = body.sizes(1, clear).up_clear
    sample, noise = (
        unpack_signed(memoryview(payload)[start : start + size], clear, body.reveal_bits)
        for start in (HEADER_BYTES, HEADER_BYTES + size)
    )
    return RevealedStep(f, g, sample, noise)
