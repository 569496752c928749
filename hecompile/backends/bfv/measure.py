"""Measuring what `bfv` does, for a profile. A module of its own: a server must not know how keys are made.

Whole requests of a dozen layers are timed through the client and the server that artifacts use, and explained by what they did:
the times of a profile are the non-negative ones whose predictions are nearest, in proportion. Seconds are CPU seconds of all
threads of this process, without the time that other processes took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hecompile.backends.bfv.choose import Choice, choose
from hecompile.backends.bfv.costs import PRICES, Work, client_work, server_work
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.errors import InternalError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, Part, conv2d, linear
from hecompile.ir.products import Product, QuantizedProduct
from hecompile.ir.quantization import quantize
from hecompile.machine import NEVER_ZERO, Machine, machine_with
from hecompile.timing import explain, process_seconds

if TYPE_CHECKING:
    from hecompile.backends.region_client import RegionClient
    from hecompile.backends.region_server import RegionServer
    from hecompile.ir.halves import Array

__all__ = ["CLIENT", "SERVER", "layer_works", "measure_bfv", "prices_of"]

CONVS = (
    (1, 16, 8), (16, 16, 8), (48, 16, 8), (16, 32, 4), (32, 32, 4), (64, 32, 4), (64, 64, 16), (64, 64, 32), (128, 128, 8),
    (320, 320, 16), (640, 640, 8), (4, 320, 32), (320, 4, 32),
)  # fmt: skip
TOKENS = ((64, 32, 1), (64, 520, 1), (32, 128, 16), (32, 32, 16), (256, 256, 64), (640, 640, 256))
MORE_RUNS = (1, 3, 9)  # times what was asked for, until no price is zero that cannot be
SERVER = ("macs", "words", "ntts", "pairs", "layers")
CLIENT = ("encrypts", "decrypts", "ways")


def measure_bfv(bfv: IntegerBackend, runs: int) -> dict[str, float]:
    """The fields of a profile that are about `bfv`; some ten seconds."""
    for more in MORE_RUNS:
        found = _request_prices(bfv, more * runs)
        if min(found[name] for name in NEVER_ZERO if name in found) > 0:  # else others disturbed the times too much
            break
    return found | _release(bfv, machine_with(found), runs)


def prices_of(works: Sequence[Work], seconds: Sequence[float], wanted: Sequence[str]) -> dict[str, float]:
    """The prices, by their names in a profile, that explain how long these works took."""
    amounts = np.array([[getattr(work, name) for name in wanted] for work in works], np.float64)
    found = dict(zip(wanted, explain(amounts, np.array(seconds)), strict=True))
    return {field: float(found[name]) / unit for name, field, unit in PRICES if name in found}


def layer_works() -> list[tuple[Work, Work, Work]]:
    """What the server does for each layer that is measured, and what the client does each way."""
    return [_works(_packed(geometry)[1]) for geometry in _geometries()]


def _request_prices(bfv: IntegerBackend, runs: int) -> dict[str, float]:
    """The prices that explain whole requests of all layers."""
    requests = [_request(bfv, geometry, runs) for geometry in _geometries()]
    server = prices_of([each.server for each in requests], [each.server_s for each in requests], SERVER)
    client = [each.encrypting for each in requests] + [each.decrypting for each in requests]
    client_s = [each.encrypt_s for each in requests] + [each.decrypt_s for each in requests]
    return server | prices_of(client, client_s, CLIENT)


def _conv(channels: int, outputs: int, size: int) -> Geometry:
    return conv2d(np.ones((outputs, channels, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)[0]


def _geometries() -> list[Geometry]:
    return [_conv(*each) for each in CONVS] + [linear(np.ones((outputs, channels)), size)[0] for channels, outputs, size in TOKENS]


def _release(bfv: IntegerBackend, machine: Machine, runs: int) -> dict[str, float]:
    """What a part in clear costs whatever its size: of a small layer with half of its channels in clear."""
    from hecompile.backends.bfv.costs import released_cost
    from hecompile.backends.bfv.pricing import released_of

    geometry, split = _conv(32, 32, 4), ChannelSplit(32, tuple(range(16)))
    without, released = _request(bfv, _conv(16, 32, 4), runs), released_of(geometry, split, 1, 32)
    if released is None:
        raise InternalError("nothing is in clear")
    product_s = released_cost(released, machine).server_s - 1e-6 * machine.release_us
    more_s = _request(bfv, geometry, runs, split).server_s - without.server_s - product_s
    return {"release_us": max(more_s, 0.0) * 1e6}


@dataclass(frozen=True)
class _Request:
    """One layer's work and CPU seconds, at the server and both ways at the client."""

    server: Work
    encrypting: Work
    decrypting: Work
    server_s: float
    encrypt_s: float
    decrypt_s: float


def _works(choice: Choice) -> tuple[Work, Work, Work]:
    """At the server, encrypting and decrypting."""
    client = client_work(choice.layout)
    server = server_work(choice.layout, choice.parameters.q_bits)
    return server, Work(encrypts=client.encrypts, ways=1), Work(decrypts=client.decrypts, ways=1)


def _packed(geometry: Geometry, split: ChannelSplit | None = None) -> tuple[QuantizedProduct, Choice]:
    """A layer with random weights and what is chosen for it, whatever the machine."""
    from hecompile.backends.bfv.stages import encrypted_weights

    weights = np.random.default_rng(0).standard_normal((geometry.rows, geometry.picture[0], len(geometry.taps)))
    parts, bias = (Part("y", geometry.outputs),), np.zeros(geometry.outputs, np.float32)
    quantized = quantize(Product("x", geometry, parts, weights, bias, split or ChannelSplit(geometry.channels)))
    choice = choose(encrypted_weights(quantized), 1, Machine())
    if choice is None:
        raise InternalError(f"no parameters carry {geometry}")
    return quantized, choice


def _request(bfv: IntegerBackend, geometry: Geometry, runs: int, split: ChannelSplit | None = None) -> _Request:
    """One of its requests, from float values to float values."""
    from hecompile.backends.bfv.lowering import lower_layers
    from hecompile.backends.bfv.stages import PackedProduct, ParameterizedProduct
    from hecompile.ir.regions import CallRegion

    quantized, choice = _packed(geometry, split)
    product = PackedProduct(ParameterizedProduct(quantized, choice.parameters), 1, (choice,))
    lowered = lower_layers(CallRegion("call_01", bfv.name, (product,)), bfv.name, bfv.prime)
    client, server = bfv.load_client(lowered.client), bfv.load_server(lowered.server)
    shape = (1, *geometry.size[:1], geometry.channels) if geometry.tokens else (1, geometry.channels, *geometry.size)
    value = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    payload = b"".join(client.encrypt([value], 1)[0])
    encrypt_s = process_seconds(lambda: client.encrypt([value], 1), runs)
    server_s = process_seconds(lambda: server.evaluate(payload, 1), runs)
    decrypt_s = _decrypt_seconds(client, server, value, runs)
    return _Request(*_works(choice), server_s, encrypt_s, decrypt_s)


def _decrypt_seconds(client: RegionClient, server: RegionServer, value: Array, runs: int) -> float:
    """Each run opens the answer to a request of its own: a client decrypts once and forgets its secrets."""
    requests = [client.encrypt([value], 1) for _ in range(runs + 1)]
    replies = iter([(server.evaluate(b"".join(pieces), 1), pending) for pieces, pending in requests])
    return process_seconds(lambda: client.decrypt(*next(replies)), runs)
