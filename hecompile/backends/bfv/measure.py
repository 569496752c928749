"""Measuring what `bfv` does, for a profile. A module of its own: a server must not know how keys are made.

Whole requests of some thirty layers are timed through the client and the server that artifacts use, and explained by what they did:
the times of a profile are the non-negative ones whose predictions are nearest, in proportion. Seconds are CPU seconds of all
threads of this process, without the time that other processes took. Layers take turns, as those of a model do: the caches hold
little of a layer when it is its turn again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from hecompile.backends.bfv.choose import Choice, choose
from hecompile.backends.bfv.costs import ENCRYPT_WAYS, PRICES, Work, client_work, fresh_bytes, server_work, traffic
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.errors import InternalError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, Part, conv2d, linear
from hecompile.ir.products import Product, QuantizedProduct
from hecompile.ir.quantization import quantize
from hecompile.machine import NEVER_ZERO, Machine, machine_with
from hecompile.timing import explain

__all__ = ["CLIENT", "SERVER", "layer_works", "measure_bfv", "prices_of"]

Sizes = tuple[int, int, int, int]  # channels, outputs, rows of a square picture or tokens, pictures

CONVS: tuple[Sizes, ...] = (
    (1, 16, 8, 1), (16, 16, 8, 1), (48, 16, 8, 1), (16, 32, 4, 1), (32, 32, 4, 1), (64, 32, 4, 1), (64, 64, 16, 1),
    (64, 64, 32, 1), (128, 128, 8, 1), (4, 320, 32, 1), (320, 4, 32, 1), (16, 16, 8, 8), (16, 32, 4, 16), (64, 64, 16, 8),
    (128, 128, 8, 16),
)  # fmt: skip
TOKENS: tuple[Sizes, ...] = (
    (64, 32, 1, 1), (64, 520, 1, 1), (32, 128, 16, 1), (32, 32, 16, 1), (256, 256, 64, 1), (768, 320, 77, 1)
)  # fmt: skip
WIDE_CONVS: tuple[Sizes, ...] = (
    (320, 320, 16, 1), (640, 640, 8, 1), (640, 640, 32, 1), (320, 320, 64, 1), (1280, 1280, 8, 1)
)  # fmt: skip
WIDE_TOKENS: tuple[Sizes, ...] = ((640, 640, 256, 1), (1280, 1280, 256, 1), (320, 320, 4096, 1), (320, 2560, 4096, 1))
MORE_RUNS = (1, 3, 9)  # times what was asked for, until no price is zero that cannot be
SMALL_ROUNDS = 3  # of layers that take milliseconds, where a wide one has half a round
SERVER = ("macs", "words", "ntts", "pairs", "weights", "fresh", "layers")
CLIENT = ("encrypts", "decrypts", "reads", "ways")


def measure_bfv(bfv: IntegerBackend, runs: int) -> dict[str, float]:
    """The fields of a profile that are about `bfv`; some fifteen seconds."""
    small, wide = ([_Layer(bfv, *each) for each in _geometries(*sizes)] for sizes in ((CONVS, TOKENS), (WIDE_CONVS, WIDE_TOKENS)))
    for more in MORE_RUNS:
        _take_turns(small, SMALL_ROUNDS * more * runs)
        _take_turns(wide, -(-more * runs // 2))
        found = _request_prices(small + wide)
        if min(found[name] for name in NEVER_ZERO if name in found) > 0:  # else others disturbed the times too much
            break
    return found | _release(bfv, machine_with(found), SMALL_ROUNDS * runs, small)


def prices_of(works: Sequence[Work], seconds: Sequence[float], wanted: Sequence[str]) -> dict[str, float]:
    """The prices, by their names in a profile, that explain how long these works took."""
    amounts = np.array([[getattr(work, name) for name in wanted] for work in works], np.float64)
    found = dict(zip(wanted, explain(amounts, np.array(seconds)), strict=True))
    return {field: float(found[name]) / unit for name, field, unit in PRICES if name in found}


def layer_works() -> list[tuple[Work, Work, Work]]:
    """What the server does for each layer that is measured, and what the client does each way."""
    layers = _geometries(CONVS + WIDE_CONVS, TOKENS + WIDE_TOKENS)
    return [_works(_packed(geometry, pictures)[1]).each for geometry, pictures in layers]


@dataclass(frozen=True)
class _Works:
    """One request: at the server, encrypting and decrypting."""

    server: Work
    encrypting: Work
    decrypting: Work

    @property
    def each(self) -> tuple[Work, Work, Work]:
        return self.server, self.encrypting, self.decrypting


class _Layer:
    """A layer with random weights, its client and its server, and what its requests took."""

    def __init__(self, bfv: IntegerBackend, geometry: Geometry, pictures: int = 1, split: ChannelSplit | None = None) -> None:
        from hecompile.backends.bfv.lowering import lower_layers
        from hecompile.backends.bfv.stages import PackedProduct, ParameterizedProduct
        from hecompile.ir.regions import CallRegion

        quantized, choice = _packed(geometry, pictures, split)
        product = PackedProduct(ParameterizedProduct(quantized, choice.parameters), pictures, (choice,))
        lowered = lower_layers(CallRegion("call_01", bfv.name, (product,)), bfv.name, bfv.prime)
        self._client, self._server = bfv.load_client(lowered.client), bfv.load_server(lowered.server)
        size = (*geometry.size[:1], geometry.channels) if geometry.tokens else (geometry.channels, *geometry.size)
        self._value = np.random.default_rng(1).standard_normal((pictures, *size)).astype(np.float32)
        self._works, self._spent = _works(choice), list[tuple[float, float, float]]()

    @property
    def works(self) -> _Works:
        return self._works

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Medians: of the server, encrypting and decrypting."""
        server_s, encrypt_s, decrypt_s = (median(column) for column in zip(*self._spent, strict=True))
        return server_s, encrypt_s, decrypt_s

    def request(self, count: bool) -> None:
        """One request, from float values to float values; counted or for the caches."""
        times = [time.process_time()]
        pieces, pending = self._client.encrypt([self._value], 1)
        times.append(time.process_time())
        payload = b"".join(pieces)
        times.append(time.process_time())
        reply = self._server.evaluate(payload, 1)
        times.append(time.process_time())
        self._client.decrypt(reply, pending)
        times.append(time.process_time())
        if count:
            self._spent.append((times[3] - times[2], times[1] - times[0], times[4] - times[3]))


def _take_turns(layers: Sequence[_Layer], rounds: int) -> None:
    """So many requests of every layer, after one that does not count."""
    for place in range(rounds + 1):
        for layer in layers:
            layer.request(count=place > 0)


def _request_prices(layers: Sequence[_Layer]) -> dict[str, float]:
    """The prices that explain whole requests of all layers."""
    server, encrypting, decrypting = zip(*(layer.works.each for layer in layers), strict=True)
    server_s, encrypt_s, decrypt_s = zip(*(layer.seconds for layer in layers), strict=True)
    return prices_of(server, server_s, SERVER) | prices_of(encrypting + decrypting, encrypt_s + decrypt_s, CLIENT)


def _conv(channels: int, outputs: int, size: int) -> Geometry:
    return conv2d(np.ones((outputs, channels, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)[0]


def _geometries(convs: Sequence[Sizes], tokens: Sequence[Sizes]) -> list[tuple[Geometry, int]]:
    """Layers and how many pictures a request has."""
    return [(_conv(*sizes), pictures) for *sizes, pictures in convs] + [
        (linear(np.ones((outputs, channels)), size)[0], pictures) for channels, outputs, size, pictures in tokens
    ]


def _release(bfv: IntegerBackend, machine: Machine, rounds: int, between: Sequence[_Layer]) -> dict[str, float]:
    """What a part in clear costs whatever its size: of a small layer with half of its channels in clear, among other layers."""
    from hecompile.backends.bfv.costs import released_cost
    from hecompile.backends.bfv.pricing import released_of

    geometry, split = _conv(32, 32, 4), ChannelSplit(32, tuple(range(16)))
    without, shown, released = _Layer(bfv, _conv(16, 32, 4)), _Layer(bfv, geometry, 1, split), released_of(geometry, split, 1, 32)
    if released is None:
        raise InternalError("nothing is in clear")
    _take_turns((without, *between, shown), rounds)
    counted = released_cost(released, machine)
    server_s = shown.seconds[0] - without.seconds[0] - (counted.server_s - 1e-6 * machine.release_us)
    client_s = shown.seconds[1] - without.seconds[1] - (counted.client_s - 1e-6 * machine.client_release_us)
    return {"release_us": max(server_s, 0.0) * 1e6, "client_release_us": max(client_s, 0.0) * 1e6}


def _works(choice: Choice) -> _Works:
    q_bits, client = choice.parameters.q_bits, client_work(choice.layout)
    sent = traffic(choice.layout, q_bits, (choice.drop_b, choice.drop_a))
    return _Works(
        replace(server_work(choice.layout, q_bits), fresh=fresh_bytes(sent)),
        Work(encrypts=client.encrypts, ways=ENCRYPT_WAYS),
        Work(decrypts=client.decrypts, reads=client.reads, ways=1),
    )


def _packed(geometry: Geometry, pictures: int, split: ChannelSplit | None = None) -> tuple[QuantizedProduct, Choice]:
    """A layer with random weights and what is chosen for it, whatever the machine."""
    from hecompile.backends.bfv.stages import encrypted_weights

    weights = np.random.default_rng(0).standard_normal((geometry.rows, geometry.picture[0], len(geometry.taps)))
    parts, bias = (Part("y", geometry.outputs),), np.zeros(geometry.outputs, np.float32)
    quantized = quantize(Product("x", geometry, parts, weights.copy, bias, split or ChannelSplit(geometry.channels)))
    choice = choose(encrypted_weights(quantized), pictures, Machine())
    if choice is None:
        raise InternalError(f"no parameters carry {geometry}")
    return quantized, choice
