"""Measures for a profile what `bfv` takes on this machine. It is apart from the rest because a server must not import client code.

Requests of some thirty layers run through the client and the server that artifacts use. `Work` says what each of them did. The
prices of the profile are the non-negative ones whose predictions are nearest to the measured times, in proportion. Times are CPU
seconds of all threads of this process. Layers take turns as in a model, so that caches hold little of a layer when its turn comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from hecompile.backends.bfv.choose import Choice, choose
from hecompile.backends.bfv.costs import ENCRYPT_OVERHEADS, PRICES, Work, client_work, fresh_bytes, server_work, traffic
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.errors import InternalError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Geometry, Part, conv2d, linear
from hecompile.ir.linear_ops import FloatLinearOp, QuantizedLinearOp
from hecompile.ir.quantization import quantize
from hecompile.machine import NEVER_ZERO, Machine, machine_with
from hecompile.timing import explain

__all__ = ["CLIENT", "SERVER", "layer_works", "measure_bfv", "prices_of"]

Sizes = tuple[int, int, int, int]  # channels, outputs, side of a square picture or number of tokens, pictures

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
MORE_RUNS = (1, 3, 9)  # factors for the number of runs, tried until every price is above zero that has to be
SMALL_ROUNDS = 3  # rounds of small layers for every run; wide layers have half a round
SERVER = ("macs", "words", "ntts", "pairs", "weights", "fresh", "server_layers")
CLIENT = ("encrypts", "decrypts", "gathered", "client_layers")


def measure_bfv(bfv: IntegerBackend, runs: int) -> dict[str, float]:
    """Measure this machine, and return the fields of `Machine` that are about `bfv`, by name. Takes about fifteen seconds."""
    small, wide = ([_Layer(bfv, *shape) for shape in _geometries(*sizes)] for sizes in ((CONVS, TOKENS), (WIDE_CONVS, WIDE_TOKENS)))
    for more in MORE_RUNS:
        _take_turns(small, SMALL_ROUNDS * more * runs)
        _take_turns(wide, -(-more * runs // 2))
        prices = _request_prices(small + wide)
        if min(prices[name] for name in NEVER_ZERO if name in prices) > 0:  # otherwise other processes disturbed the times too much
            break
    return prices | _reveal(bfv, machine_with(prices), SMALL_ROUNDS * runs, small)


def prices_of(works: Sequence[Work], seconds: Sequence[float], wanted: Sequence[str]) -> dict[str, float]:
    """The prices, by their fields of `Machine`, that best explain how long these works took."""
    amounts = np.array([[getattr(work, name) for name in wanted] for work in works], np.float64)
    seconds_each = dict(zip(wanted, explain(amounts, np.array(seconds)), strict=True))
    return {field: float(seconds_each[name]) / unit for name, field, unit in PRICES if name in seconds_each}


def layer_works() -> list[tuple[Work, Work, Work]]:
    """For each measured layer the work of the server, of encrypting and of decrypting."""
    layers = _geometries(CONVS + WIDE_CONVS, TOKENS + WIDE_TOKENS)
    return [_works(_packed(geometry, pictures)[1]).each for geometry, pictures in layers]


@dataclass(frozen=True)
class _Works:
    """The work of one request at the server, and at the client for encrypting and for decrypting."""

    server: Work
    encrypting: Work
    decrypting: Work

    @property
    def each(self) -> tuple[Work, Work, Work]:
        return self.server, self.encrypting, self.decrypting


class _Layer:
    """A layer with random weights, its client and its server, and the times of its requests so far."""

    def __init__(self, bfv: IntegerBackend, geometry: Geometry, pictures: int = 1, split: ChannelSplit | None = None) -> None:
        from hecompile.backends.bfv.lowering import lower_layers
        from hecompile.backends.bfv.stages import PackedLinearOp, ParameterizedLinearOp
        from hecompile.ir.regions import CallRegion

        quantized, choice = _packed(geometry, pictures, split)
        linear_op = PackedLinearOp(ParameterizedLinearOp(quantized, choice.parameters), pictures, (choice,))
        lowered = lower_layers(CallRegion("call_01", bfv.name, (linear_op,)), bfv.name, bfv.prime)
        self._client, self._server = bfv.load_client(lowered.client), bfv.load_server(lowered.server)
        size = (*geometry.size[:1], geometry.channels) if geometry.tokens else (geometry.channels, *geometry.size)
        self._value = np.random.default_rng(1).standard_normal((pictures, *size)).astype(np.float32)
        self._works, self._spent = _works(choice), list[tuple[float, float, float]]()

    @property
    def works(self) -> _Works:
        return self._works

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Median seconds of the server, of encrypting and of decrypting."""
        server_s, encrypt_s, decrypt_s = (median(column) for column in zip(*self._spent, strict=True))
        return server_s, encrypt_s, decrypt_s

    def request(self, count: bool) -> None:
        """Send one request, from float values to float values. `count`: whether its times are kept."""
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
    """Send `rounds` requests of every layer, after one that is not counted."""
    for place in range(rounds + 1):
        for layer in layers:
            layer.request(count=place > 0)


def _request_prices(layers: Sequence[_Layer]) -> dict[str, float]:
    """The prices that explain the requests of all layers."""
    server, encrypting, decrypting = zip(*(layer.works.each for layer in layers), strict=True)
    server_s, encrypt_s, decrypt_s = zip(*(layer.seconds for layer in layers), strict=True)
    return prices_of(server, server_s, SERVER) | prices_of(encrypting + decrypting, encrypt_s + decrypt_s, CLIENT)


def _conv(channels: int, outputs: int, size: int) -> Geometry:
    return conv2d(np.ones((outputs, channels, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)[0]


def _geometries(convs: Sequence[Sizes], tokens: Sequence[Sizes]) -> list[tuple[Geometry, int]]:
    """The geometry of each layer, and how many pictures its requests have."""
    return [(_conv(*sizes), pictures) for *sizes, pictures in convs] + [
        (linear(np.ones((outputs, channels)), size)[0], pictures) for channels, outputs, size, pictures in tokens
    ]


def _reveal(bfv: IntegerBackend, machine: Machine, rounds: int, between: Sequence[_Layer]) -> dict[str, float]:
    """The overhead of revealing, measured on a small layer that reveals half of its channels."""
    from hecompile.backends.bfv.costs import revealed_cost
    from hecompile.backends.bfv.pricing import revealed_of

    geometry, split = _conv(32, 32, 4), ChannelSplit(32, tuple(range(16)))
    without, revealing, revealed = (
        _Layer(bfv, _conv(16, 32, 4)),
        _Layer(bfv, geometry, 1, split),
        revealed_of(geometry, split, 1, 32),
    )
    if revealed is None:
        raise InternalError("nothing is in the clear")
    _take_turns((without, *between, revealing), rounds)
    counted = revealed_cost(revealed, machine)
    server_s = revealing.seconds[0] - without.seconds[0] - (counted.server_s - 1e-6 * machine.server_reveal_us)
    client_s = revealing.seconds[1] - without.seconds[1] - (counted.client_s - 1e-6 * machine.client_reveal_us)
    return {"server_reveal_us": max(server_s, 0.0) * 1e6, "client_reveal_us": max(client_s, 0.0) * 1e6}


def _works(choice: Choice) -> _Works:
    q_bits, client = choice.parameters.q_bits, client_work(choice.layout)
    sent = traffic(choice.layout, q_bits, (choice.drop_b, choice.drop_a))
    return _Works(
        replace(server_work(choice.layout, q_bits), fresh=fresh_bytes(sent)),
        Work(encrypts=client.encrypts, client_layers=ENCRYPT_OVERHEADS),
        Work(decrypts=client.decrypts, gathered=client.gathered, client_layers=1),
    )


def _packed(geometry: Geometry, pictures: int, split: ChannelSplit | None = None) -> tuple[QuantizedLinearOp, Choice]:
    """A layer with random weights, and its parameters and packing, which do not depend on this machine."""
    from hecompile.backends.bfv.stages import encrypted_weights

    weights = np.random.default_rng(0).standard_normal((geometry.rows, geometry.picture[0], len(geometry.taps)))
    parts, bias = (Part("y", geometry.outputs),), np.zeros(geometry.outputs, np.float32)
    quantized = quantize(FloatLinearOp("x", geometry, parts, weights.copy, bias, split or ChannelSplit(geometry.channels)))
    choice = choose(encrypted_weights(quantized), pictures, Machine())
    if choice is None:
        raise InternalError(f"no parameters carry {geometry}")
    return quantized, choice
