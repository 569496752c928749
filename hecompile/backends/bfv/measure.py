"""Measuring what `bfv` does, for a profile. A module of its own: a server must not know how keys are made.

Whole requests of a dozen layers are timed through the client and the server that artifacts use, and explained by what they did:
the times of a profile are the non-negative ones whose predictions are nearest, in proportion. Seconds are CPU seconds of the thread
that works: on a quiet machine the clock's, on a busy one without the time that others took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from hecompile.backends.bfv.costs import PRICES, Work, client_work, server_work
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.errors import InternalError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, conv2d, linear
from hecompile.machine import NEVER_ZERO, Machine, machine_with
from hecompile.timing import explain, thread_seconds

__all__ = ["measure_bfv"]

CONVS = (
    (1, 16, 8), (16, 16, 8), (48, 16, 8), (16, 32, 4), (32, 32, 4), (64, 32, 4), (64, 64, 16), (64, 64, 32), (128, 128, 8),
    (320, 320, 16),
)  # fmt: skip
TOKENS = ((64, 32, 1), (64, 520, 1), (32, 128, 16), (32, 32, 16), (256, 256, 64))
MORE_RUNS = (1, 3, 9)  # times what was asked for, until no price is zero that cannot be
SERVER = ("terms", "weights", "sums", "words", "extends", "layers")


def measure_bfv(bfv: IntegerBackend, runs: int) -> dict[str, float]:
    """The fields of a profile that are about `bfv`; some ten seconds."""
    from hecompile.backends.bfv.product import choose_kernel

    found: dict[str, float] = {"limb_bits": float(choose_kernel().limb_bits)} | _primitives(runs)
    known = machine_with(found)
    for more in MORE_RUNS:
        prices = _request_prices(bfv, known, more * runs)
        if min(prices[name] for name in NEVER_ZERO if name in prices) > 0:  # else others disturbed the times too much
            break
    return found | prices | _release(bfv, machine_with(found | prices), runs)


def _request_prices(bfv: IntegerBackend, known: Machine, runs: int) -> dict[str, float]:
    """The prices that explain whole requests of a dozen layers."""
    requests = [_request(bfv, geometry, known, runs) for geometry in _geometries()]
    server = _prices([each.server for each in requests], [each.server_s for each in requests], SERVER, known)
    client = [each.encrypting for each in requests] + [each.decrypting for each in requests]
    client_s = [each.encrypt_s for each in requests] + [each.decrypt_s for each in requests]
    return server | _prices(client, client_s, ("encrypts", "decrypts", "carries", "ways"), machine_with(known.prices() | server))


def _conv(channels: int, outputs: int, size: int) -> Geometry:
    return conv2d(np.ones((outputs, channels, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)[0]


def _geometries() -> list[Geometry]:
    return [_conv(*each) for each in CONVS] + [linear(np.ones((outputs, channels)), size)[0] for channels, outputs, size in TOKENS]


def _primitives(runs: int) -> dict[str, float]:
    """What is timed by itself: products, expanding seeds, packing and unpacking words."""
    from hecompile.backends.bfv.product import choose_kernel
    from hecompile.backends.bfv.seal import SEED_BYTES, expand_seeds, make_ring
    from hecompile.backends.words import pack_bits, unpack_bits

    kernel = choose_kernel()
    limbs = kernel.hold(np.ones((6, 1440, 2048), np.uint8))
    matrices = [np.ones((rows, 1440), np.int8) for rows in (32, 288)]
    few_s, many_s = (thread_seconds(partial(kernel.product, limbs, matrix), runs) for matrix in matrices)
    ring, bits = make_ring(2048, 47, 1 << 25), 47
    words = np.random.default_rng(0).integers(0, 1 << bits, 8 * 2048).astype(np.uint64)
    packed = pack_bits(words, bits)
    both_s = thread_seconds(lambda: pack_bits(words, bits), runs)
    both_s += thread_seconds(lambda: unpack_bits(memoryview(packed), len(words), bits), runs)
    seeds = np.zeros((8, SEED_BYTES), np.uint8)
    return {
        "mac_ps": max(many_s - few_s, 0.1 * many_s) / (limbs.size * 256) * 1e12,  # without what any product costs
        "expand_us": thread_seconds(lambda: expand_seeds(ring, seeds), runs) / 8 * 1e6,
        "wire_ns": both_s / 2 / len(packed) * 1e9,
    }


def _release(bfv: IntegerBackend, machine: Machine, runs: int) -> dict[str, float]:
    """What a part in clear costs whatever its size: of a small layer with half of its channels in clear."""
    from hecompile.backends.bfv.costs import released_cost
    from hecompile.backends.bfv.pricing import released_of

    geometry, split = _conv(32, 32, 4), ChannelSplit(32, tuple(range(16)))
    without, released = _request(bfv, _conv(16, 32, 4), machine, runs), released_of(geometry, split, 1, 32)
    if released is None:
        raise InternalError("nothing is in clear")
    expected_s = without.server_s + released_cost(released, replace(machine, release_us=0.0)).server_s
    return {"release_us": max(_request(bfv, geometry, machine, runs, split).server_s - expected_s, 0.0) * 1e6}


@dataclass(frozen=True)
class _Request:
    """One layer's work and CPU seconds, at the server and both ways at the client."""

    server: Work
    encrypting: Work
    decrypting: Work
    server_s: float
    encrypt_s: float
    decrypt_s: float


def _request(bfv: IntegerBackend, geometry: Geometry, machine: Machine, runs: int, split: ChannelSplit | None = None) -> _Request:
    """A layer with random weights, from float values to float values."""
    from hecompile.backends.bfv.choose import choose
    from hecompile.backends.bfv.lowering import lower_layers
    from hecompile.backends.bfv.stages import PackedProduct, ParameterizedProduct, encrypted_weights
    from hecompile.ir.linear import Part
    from hecompile.ir.products import Product
    from hecompile.ir.quantization import quantize
    from hecompile.ir.regions import CallRegion

    rng, split = np.random.default_rng(0), split or ChannelSplit(geometry.channels)
    weights = rng.standard_normal((geometry.rows, geometry.picture[0], len(geometry.taps)))
    parts = (Part("y", geometry.outputs),)
    quantized = quantize(Product("x", geometry, parts, weights, np.zeros(geometry.outputs, np.float32), split))
    choice = choose(encrypted_weights(quantized), 1, machine)
    if choice is None:
        raise InternalError(f"no parameters carry {geometry}")
    product = PackedProduct(ParameterizedProduct(quantized, choice.parameters), 1, (choice,))
    lowered = lower_layers(CallRegion("call_01", bfv.name, (product,)), bfv.name, bfv.prime)
    client, server = bfv.load_client(lowered.client), bfv.load_server(lowered.server)
    shape = (1, *geometry.size[:1], geometry.channels) if geometry.tokens else (1, geometry.channels, *geometry.size)
    value = rng.standard_normal(shape).astype(np.float32)
    pieces, pending = client.encrypt([value], 1)
    payload = b"".join(pieces)
    reply = server.evaluate(payload, 1)
    layout, q_bits, drops = choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a)
    whole = client_work(layout, q_bits, drops)
    return _Request(
        server_work(layout, q_bits, drops, machine),
        Work(encrypts=whole.encrypts, ways=1, carries=len(payload)),
        Work(decrypts=whole.decrypts, ways=1, carries=len(reply)),
        thread_seconds(lambda: server.evaluate(payload, 1), runs),
        thread_seconds(lambda: client.encrypt([value], 1), runs),
        thread_seconds(lambda: client.decrypt(reply, pending), runs),
    )


def _prices(works: Sequence[Work], seconds: Sequence[float], wanted: Sequence[str], known: Machine) -> dict[str, float]:
    """The prices of what is wanted, the rest being known."""
    rest = [
        Work(**{each.name: 0.0 if each.name in wanted else getattr(work, each.name) for each in fields(Work)}) for work in works
    ]
    left = np.array([max(total - work.seconds(known), 0.05 * total) for total, work in zip(seconds, rest, strict=True)])
    amounts = np.array([[getattr(work, name) for name in wanted] for work in works], np.float64)
    found = dict(zip(wanted, explain(amounts, left), strict=True))
    return {field: float(found[name]) / unit for name, field, unit in PRICES if name in found}
