"""A linear layer as a circuit of Concrete without lookups: zero padding by assignment, then one convolution.

Everything in the circuit has one scale and one width, so nothing is requantised and no evaluation key is needed. Only the compiler
and the worker processes import this module's library: it takes seconds and brings torch.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.frames import Frame, frame_of
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.concrete.stages import largest_result, quantise_windows
from hecompile.errors import InternalError, MissingExtraError
from hecompile.ir.linear import Array, Geometry

__all__ = ["Circuit", "Trial", "concrete", "configuration", "framed", "linear_circuit", "specs_text"]


@dataclass(frozen=True)
class Trial:
    """What one encrypted run tells: how ciphertexts are framed, the serialised evaluation keys, CPU seconds of the evaluation."""

    request: Frame
    reply: Frame
    keys: bytes
    seconds: float


@dataclass(frozen=True)
class Circuit:
    """A compiled circuit: all that the two halves keep of it."""

    specs: Specs
    mlir: str
    complexity: float
    largest: int  # no result is beyond
    trial: Trial  # its keys are an empty set


def concrete() -> Any:
    """The module `concrete.fhe`. Raises `MissingExtraError`."""
    try:
        from concrete import fhe
    except ImportError as error:
        raise MissingExtraError("backend 'concrete'", "concrete") from error
    return fhe


def configuration(p_error: float | None, lookups: bool) -> Any:
    """How circuits are compiled, by the compiler and again by the server: the same parameters must come out.

    Lookups of one circuit run side by side; of linear circuits, several run at once instead.
    """
    return concrete().Configuration(
        p_error=p_error, compress_input_ciphertexts=True, compress_evaluation_keys=True, loop_parallelize=lookups,
        enable_unsafe_features=False, use_insecure_key_cache=False, show_progress=False, verbose=False,
    )  # fmt: skip


def _kernel(geometry: Geometry, weights: npt.NDArray[np.int8]) -> tuple[Array, tuple[int, int]]:
    """Weights (rows, C', K) as a kernel (rows, C', kh, kw), and the lowest tap."""
    rows, columns = zip(*geometry.taps, strict=True)
    low, size = (min(rows), min(columns)), (max(rows) - min(rows) + 1, max(columns) - min(columns) + 1)
    kernel = np.zeros((*weights.shape[:2], *size), np.int64)
    for place, (dy, dx) in enumerate(geometry.taps):
        kernel[:, :, dy - low[0], dx - low[1]] = weights[:, :, place]
    return kernel, low


def linear_circuit(geometry: Geometry, weights: npt.NDArray[np.int8], limit: int, p_error: float) -> Circuit:
    """The circuit from pictures (1, C', H', W') within their limits to results (1, rows, grid), tried once, encrypted.

    Raises:
        InternalError: if the trial gives another result than the integers.
    """
    fhe = concrete()
    kernel, low = _kernel(geometry, weights)
    channels, *picture = geometry.picture
    padded = [grid + size - 1 for grid, size in zip(geometry.grid, kernel.shape[2:], strict=True)]
    first = [max(0, each) for each in low]
    last = [min(size, start + span) for size, start, span in zip(picture, low, padded, strict=True)]
    into = [slice(start - shift, stop - shift) for start, stop, shift in zip(first, last, low, strict=True)]
    whole = all(each == slice(0, size) for each, size in zip(into, padded, strict=True))

    def convolve(x: Any) -> Any:
        window = x[:, :, first[0] : last[0], first[1] : last[1]]
        if not whole:
            canvas = fhe.zeros((1, channels, *padded))
            canvas[:, :, into[0], into[1]] = window
            window = canvas
        return fhe.hint(fhe.conv(window, kernel), can_store=-largest - 1)

    largest = largest_result(geometry, weights, limit)
    spike = np.zeros((1, *geometry.picture), np.int64)
    spike[0, 0, -1, -1] = limit  # bounds of the input; those of the result are told
    inputs = [spike, -spike]
    circuit = fhe.Compiler(convolve, {"x": "encrypted"}).compile(inputs, configuration(p_error, lookups=False))
    drawn = np.random.default_rng(0).integers(-limit, limit + 1, (1, *geometry.picture))
    value, _ = quantise_windows(drawn, geometry, limit)
    expected = convolved(value, geometry, weights)
    trial = framed(circuit, value, expected, p_error * expected.size)
    specs = parse_specs(specs_text(circuit.client.specs))
    return Circuit(specs, circuit.mlir, float(circuit.complexity), largest, trial)


def convolved(picture: Array, geometry: Geometry, weights: npt.NDArray[np.int8]) -> Array:
    """The result in the clear."""
    from hecompile.ir.linear import correlate

    return correlate(picture, weights.astype(np.int64), geometry.taps, geometry.grid)


def specs_text(specs: Any) -> str:
    """A client's specification in one spelling, without what says how TFHE-rs would see it (nothing here)."""
    document = json.loads(specs.serialize())
    document.pop("tfhers_specs", None)
    return json.dumps(document, sort_keys=True)


def framed(circuit: Any, value: Array, expected: Array, errors: float) -> Trial:
    """One encrypted run with fresh keys, of whose results `errors` are wrong in the mean.

    Raises:
        InternalError: if the run gives other integers than expected, more often than six standard deviations above the mean.
    """
    specs = parse_specs(specs_text(circuit.client.specs))
    circuit.keygen(force=True)
    ciphertext = circuit.encrypt(value)
    started = time.process_time()
    result = circuit.run(ciphertext)
    seconds = time.process_time() - started
    wrong = np.count_nonzero(circuit.decrypt(result) != expected)
    if wrong > errors + 6 * math.sqrt(errors):
        raise InternalError(f"a circuit of Concrete gives another result than its integers ({specs.output_width} bits)")
    request = frame_of(ciphertext.serialize(), 8 * specs.input_words)
    reply = frame_of(result.serialize(), 8 * specs.output_words)
    return Trial(request, reply, circuit.keys.evaluation.serialize(), seconds)
