"""Measures for a profile what Concrete takes: table lookups, expanding evaluation keys, linear circuits and their clients."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from hecompile.machine import Machine, machine_with

__all__ = ["measure_concrete", "with_lookups"]

BITS, LOOKUPS = 5, 16  # bits of a measured table lookup, and how many run at a time
P_ERROR = 2.0**-40
CONVS = ((8, 1, 8), (1, 8, 8), (16, 16, 4))  # input channels, output channels, rows and columns


def _seconds(task: Callable[[], object], runs: int = 1) -> float:
    """The least CPU seconds of this process, with all its threads, that a task takes in some runs."""
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        task()
        seconds.append(time.process_time() - started)
    return min(seconds)


@lru_cache(maxsize=1)
def _lookups() -> dict[str, float]:
    """Prices of table lookups and of expanding keys. The first of three runs expands the keys."""
    from hecompile.backends.concrete.library import concrete, configuration

    def square(value: Any) -> Any:
        return concrete().univariate(lambda number: number * number // 2**BITS)(value)

    values = np.arange(LOOKUPS) * 2 + 1
    compiler = concrete().Compiler(square, {"value": "encrypted"})
    circuit = compiler.compile([values, values[::-1]], configuration(P_ERROR))
    circuit.keygen(force=True)
    ciphertext = circuit.encrypt(values)
    first_s, next_s = _seconds(lambda: circuit.run(ciphertext)), _seconds(lambda: circuit.run(ciphertext), runs=2)
    key_mib = (circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys) / 2**20
    return {
        "lookup_ps": next_s / float(circuit.complexity) * 1e12,
        "key_mib_ms": max(0.0, first_s - next_s) / key_mib * 1e3,
    }


@dataclass(frozen=True)
class _Request:
    """How much one linear circuit did, and the CPU seconds of both sides."""

    amounts: tuple[float, float, float]  # products of words, integers of the request, integers of the reply
    evaluate_s: float
    encrypt_s: float
    decrypt_s: float


def _request(channels: int, outputs: int, size: int, runs: int) -> _Request:
    """Measure one request of a convolution without table lookups, from and to bytes."""
    from hecompile.backends.concrete.circuits import linear_circuit
    from hecompile.backends.concrete.library import concrete, configuration
    from hecompile.backends.concrete.spans import products_of
    from hecompile.backends.concrete.windows import limits_for
    from hecompile.ir.linear import conv2d

    fhe, weights = concrete(), np.full((outputs, channels, 3, 3), 64.0)
    geometry, kernel = conv2d(weights, (size, size), (1, 1), (1, 1), (1, 1), 1)
    small = kernel.astype(np.int8)
    circuit = linear_circuit(geometry, small, limits_for(geometry, small), P_ERROR)
    server = fhe.Server.create(circuit.mlir, configuration(P_ERROR, parallel=False))
    client = fhe.Client(server.client_specs)
    client.keygen(force=True)
    picture, keys = np.ones((1, channels, size, size), np.int64), client.evaluation_keys
    request = client.encrypt(picture).serialize()

    def evaluate() -> bytes:
        answer: bytes = server.run(fhe.Value.deserialize(request), evaluation_keys=keys).serialize()
        return answer

    reply, area, words = evaluate(), size * size, circuit.specs.encryptions[0].dimension + 1
    return _Request(
        (float(outputs * channels * products_of(geometry) * words), float(channels * area), float(outputs * area)),
        _seconds(evaluate, runs),
        _seconds(lambda: client.encrypt(picture).serialize(), runs),
        _seconds(lambda: client.decrypt(fhe.Value.deserialize(reply)), runs),
    )


def _linear(runs: int) -> dict[str, float]:
    """Prices per word and per integer that fit the measured requests best."""
    from hecompile.timing import explain

    requests = [_request(*conv, runs) for conv in CONVS]
    amounts, seconds = (np.array([getattr(request, name) for request in requests]) for name in ("amounts", "evaluate_s"))
    products, expands, answers = explain(amounts, seconds)
    came, went = amounts[:, 1].sum(), amounts[:, 2].sum()
    return {
        "lwe_ps": float(products) * 1e12,
        "lwe_expand_us": float(expands) * 1e6,
        "lwe_answer_us": float(answers) * 1e6,
        "lwe_encrypt_us": sum(request.encrypt_s for request in requests) / float(came) * 1e6,
        "lwe_decrypt_us": sum(request.decrypt_s for request in requests) / float(went) * 1e6,
    }


def measure_concrete(runs: int) -> dict[str, float]:
    """Measure the fields of a profile that are about Concrete. The result is empty where it is not installed."""
    if importlib.util.find_spec("concrete") is None:
        return {}
    return _lookups() | _linear(min(runs, 3))


def with_lookups(machine: Machine) -> Machine:
    """A profile with this machine's own prices of table lookups. They are measured once per process, in about ten CPU seconds."""
    return machine_with(machine.prices() | _lookups())
