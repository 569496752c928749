"""Measuring what Concrete does, for a profile: a lookup, the expansion of evaluation keys, a linear circuit and its client."""

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

BITS, LOOKUPS = 5, 16
P_ERROR = 2.0**-40
CONVS = ((8, 1, 8), (1, 8, 8), (16, 16, 4))  # channels, outputs, size


def _seconds(task: Callable[[], object], runs: int = 1) -> float:
    """CPU seconds of the process, whose lookups run on all cores; the least of some runs."""
    found = []
    for _ in range(runs):
        started = time.process_time()
        task()
        found.append(time.process_time() - started)
    return min(found)


@lru_cache(maxsize=1)
def _lookups() -> dict[str, float]:
    """Lookups of five bits, thrice; the first time expands the keys."""
    from hecompile.backends.concrete.library import concrete, configuration

    def square(value: Any) -> Any:
        return concrete().univariate(lambda each: each * each // 2**BITS)(value)

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
    """What one linear circuit did, and CPU seconds of both sides."""

    amounts: tuple[float, float, float]  # products of words, integers that came, integers that went
    evaluate_s: float
    encrypt_s: float
    decrypt_s: float


def _request(channels: int, outputs: int, size: int, runs: int) -> _Request:
    """A convolution without lookups, through bytes."""
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
    """Prices of words and integers that explain some requests."""
    from hecompile.timing import explain

    found = [_request(*each, runs) for each in CONVS]
    amounts, seconds = np.array([each.amounts for each in found]), np.array([each.evaluate_s for each in found])
    products, expands, answers = explain(amounts, seconds)
    came, went = amounts[:, 1].sum(), amounts[:, 2].sum()
    return {
        "lwe_ps": float(products) * 1e12,
        "lwe_expand_us": float(expands) * 1e6,
        "lwe_answer_us": float(answers) * 1e6,
        "lwe_encrypt_us": sum(each.encrypt_s for each in found) / float(came) * 1e6,
        "lwe_decrypt_us": sum(each.decrypt_s for each in found) / float(went) * 1e6,
    }


def measure_concrete(runs: int) -> dict[str, float]:
    """Concrete's times of a profile; none where it is not installed."""
    if importlib.util.find_spec("concrete") is None:
        return {}
    return _lookups() | _linear(min(runs, 3))


def with_lookups(machine: Machine) -> Machine:
    """A profile with this machine's own times of lookups, measured once per process: some ten CPU seconds."""
    return machine_with(machine.prices() | _lookups())
