"""The threat model on the wire: what the server gets is ciphertext or public, and looks the same whatever the secret."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.bfv.messages import FIRST, mode_bytes
from hecompile.backends.bfv.program import region_program
from hecompile.backends.words import unpack_bits
from hecompile.buffers import Buffer
from hecompile.ir.linear import Array
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import LocalTransport, Transport
from hecompile.runtime.wire import FORMAT
from tests.payloads import sizes

pytestmark = pytest.mark.fhe


class Wiretap(Transport):
    """Keeps every byte that the server gets."""

    def __init__(self, folder: Path) -> None:
        self._inner = LocalTransport(load_service(folder))
        self.seen: list[tuple[str, str, bytes]] = []

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        self.seen.append((digest, region, b"".join(body)))
        self._inner.send(digest, region, body, reply)

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        self.seen.append((digest, "sessions", b"".join(body)))
        return self._inner.open_session(digest, body)

    def close_session(self, digest: str, identifier: str) -> None:
        self._inner.close_session(digest, identifier)

    def close(self) -> None:
        return None


def traffic(folder: Path, sample: torch.Tensor, label: int, t: float = 500.0) -> list[tuple[str, str, bytes]]:
    tap = Wiretap(folder)
    unet = EncryptedUNet(load_bundle(folder), tap)
    unet(sample, t, class_labels=torch.tensor([label] * len(sample)))
    return tap.seen


def latent(kind: str) -> torch.Tensor:
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    fill = {"zero": 0.0, "huge": 1e30, "nan": float("nan"), "inf": float("inf"), "tiny": 1e-30}
    return torch.full_like(noise, fill[kind]) if kind in fill else noise


def parse(body: bytes) -> tuple[dict[str, object], bytes]:
    (size,) = struct.unpack_from("<H", body)
    return msgpack.unpackb(body[2 : 2 + size]), body[2 + size :]


@pytest.mark.promise("ciphertexts-only")
def test_every_byte_is_public_or_ciphertext(digits: Path) -> None:
    """Every byte of every request is accounted for: a header of public fields, words below q, seeds."""
    manifest = read_manifest(digits)
    seen = traffic(digits, latent("noise"), 7)
    assert len(seen) == manifest.plan.rounds
    for digest, region, body in seen:
        header, payload = parse(body)
        assert digest == manifest.server
        assert header == {"format": FORMAT, "batch": 1, "bytes": len(payload), "session": ""}
        program = region_program(read_client_half(digits, manifest.files, f"client/{region}"))
        start = mode_bytes(program)
        assert payload[:start] == bytes([FIRST] * start)
        for layer in program.body.layers:
            size = sizes(layer, 1)
            words = unpack_bits(
                memoryview(payload)[start : start + size.up_words],
                layer.layout(1).blocks * layer.layout(1).uploads * layer.parameters.dimension,
                layer.parameters.q_bits,
            )
            assert (words < layer.q).all()
            looks_uniform(words / layer.q)
            start += size.up
        assert start == len(payload)
        assert len(zlib.compress(payload, 9)) > 0.98 * len(payload)  # nothing compressible is among it


def looks_uniform(values: Array) -> None:
    """The mean and variance of uniform numbers in [0, 1), within six standard errors."""
    count = values.size
    assert abs(values.mean() - 0.5) < 6 * math.sqrt(1 / 12 / count)
    assert abs(values.var() - 1 / 12) < 6 * math.sqrt(1 / 180 / count)


@pytest.mark.promise("same-sizes")
@pytest.mark.parametrize("kind", ["noise", "zero", "huge", "tiny", "nan", "inf"])
@pytest.mark.parametrize("label", [0, 9])
def test_sizes_and_order_do_not_depend_on_secrets(digits: Path, kind: str, label: int) -> None:
    def shape(seen: list[tuple[str, str, bytes]]) -> list[tuple[str, str, int]]:
        return [(digest, region, len(body)) for digest, region, body in seen]

    assert shape(traffic(digits, latent(kind), label)) == shape(traffic(digits, latent("noise"), 4))


@pytest.mark.promise("unrelated")
def test_nothing_repeats_when_the_same_picture_is_sent_again(digits: Path) -> None:
    """Fresh keys and seeds: equal plaintexts give unrelated traffic."""
    first, second = (traffic(digits, latent("noise"), 7) for _ in range(2))
    for (_, _, one), (_, _, two) in zip(first, second, strict=True):
        a, b = (np.frombuffer(parse(body)[1], np.uint8) for body in (one, two))
        assert abs((a == b).mean() - 1 / 256) < 6 * math.sqrt(1 / 256 / len(a))


@pytest.mark.promise("unrelated")
def test_a_distinguisher_on_the_bytes_gains_nothing(digits: Path) -> None:
    """Two very different latents: a linear classifier on byte statistics cannot tell their requests apart."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    rows, labels = [], []
    for _ in range(12):
        for number, kind in enumerate(("zero", "huge")):
            for _digest, _region, body in traffic(digits, latent(kind), 3)[:4]:
                rows.append(np.bincount(np.frombuffer(parse(body)[1], np.uint8), minlength=256) / len(body))
                labels.append(number)
    score = cross_val_score(LogisticRegression(C=1e6, max_iter=1000), np.array(rows) * 100, labels, cv=4).mean()
    assert score < 0.5 + 4 * math.sqrt(0.25 / len(labels))


@pytest.mark.promise("ciphertexts-only")
def test_the_timestep_is_all_that_differs_in_a_request_of_another_step(digits: Path) -> None:
    """And not even that: the server is not told t, as no region needs it."""
    early, late = traffic(digits, latent("noise"), 7, 900.0), traffic(digits, latent("noise"), 7, 3.0)
    assert [parse(body)[0] for _, _, body in early] == [parse(body)[0] for _, _, body in late]
