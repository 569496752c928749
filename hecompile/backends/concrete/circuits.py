"""Builds a linear layer as a circuit of Concrete without table lookups: convolutions without padding, side by side.

All values in the circuit have one scale and one bit width, so nothing is requantised and no evaluation key is needed.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.library import concrete, configuration, specs_text
from hecompile.backends.concrete.limits import ValueLimits
from hecompile.backends.concrete.spans import Span, bounds_of, spans_of
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.concrete.windows import largest_result, quantise_windows
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.linear import Array, Geometry

__all__ = [
    "Circuit",
    "EncryptedRun",
    "concatenated",
    "convolution",
    "convolved",
    "linear_circuit",
    "run_encrypted",
]  # fmt: skip


@dataclass(frozen=True)
class EncryptedRun:
    """What one encrypted run shows: the frames of request and reply, the serialised evaluation keys, and its CPU seconds."""

    request: Frame
    reply: Frame
    keys: bytes
    seconds: float


@dataclass(frozen=True)
class Circuit:
    """A compiled circuit with all that the two halves keep of it."""

    specs: Specs
    mlir: str
    complexity: float
    largest: int  # bound of the magnitude of every result
    run: EncryptedRun  # without table lookups its keys are an empty set


def _kernel(geometry: Geometry, weights: Array) -> Array:
    """Arrange weights (rows, C', K) by the places of their K taps as a kernel (rows, C', kh, kw)."""
    (top, height), (left, width) = (bounds_of(geometry, axis) for axis in (0, 1))
    kernel = np.zeros((*weights.shape[:2], height, width), np.int64)
    for place, (dy, dx) in enumerate(geometry.taps):
        kernel[:, :, dy - top, dx - left] = weights[:, :, place]
    return kernel


def convolution(x: Any, geometry: Geometry, weights: Array, largest: int) -> Any:
    """Convolve a picture (1, C', H', W') within a circuit; the result is (1, rows, grid).

    `largest` bounds the magnitude of every value in the circuit.
    """
    hint, kernel = concrete().hint, _kernel(geometry, weights)
    rows, columns = (spans_of(geometry, axis) for axis in (0, 1))

    def piece(row: Span, column: Span) -> Any:
        taps = kernel[:, :, row.taps, column.taps]
        if taps.size:
            return hint(concrete().conv(x[:, :, row.window, column.window], taps), can_store=-largest - 1)
        zero = hint(concrete().conv(x[:, :, :1, :1], np.zeros((*kernel.shape[:2], 1, 1), np.int64)), can_store=-largest - 1)
        return concatenated([concatenated([zero] * (column.stop - column.start), 3)] * (row.stop - row.start), 2)

    return hint(
        concatenated([concatenated([piece(row, column) for column in columns], 3) for row in rows], 2), can_store=-largest - 1
    )


def linear_circuit(geometry: Geometry, weights: npt.NDArray[np.int8], limits: ValueLimits, p_error: float) -> Circuit:
    """Compile the circuit from pictures (1, C', H', W') within their limits to results (1, rows, grid), and run it once encrypted.

    Raises:
        InternalError: if the encrypted run gives another result than plain integers.
    """
    largest, shape = largest_result(geometry, weights, limits), (1, *geometry.picture)
    spike = np.zeros(shape, np.int64)
    spike[0, 0, -1, -1] = limits.entry  # tells the compiler the bounds of the input
    signs = np.ones(shape, np.int64)  # so that no part of the picture is zero in all examples
    inputs = [spike, -spike, signs, -signs]
    compiler = concrete().Compiler(lambda x: convolution(x, geometry, weights, largest), {"x": "encrypted"})
    circuit = compiler.compile(inputs, configuration(p_error))
    picture = np.random.default_rng(0).integers(-limits.entry, limits.entry + 1, shape)
    value, _ = quantise_windows(picture, geometry, limits)
    expected = convolved(value, geometry, weights)
    run = run_encrypted(circuit, value, expected, p_error * expected.size)
    specs = parse_specs(specs_text(circuit.client.specs))
    return Circuit(specs, circuit.mlir, float(circuit.complexity), largest, run)


def concatenated(pieces: list[Any], axis: int) -> Any:
    """Join several values of a circuit along an axis."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(tuple(pieces), axis=axis)


def convolved(picture: Array, geometry: Geometry, weights: npt.NDArray[np.int8]) -> Array:
    """The result of a layer on integers, computed in the clear: (E, rows, grid)."""
    from hecompile.ir.linear import correlate

    return correlate(picture, weights.astype(np.int64), geometry.taps, geometry.grid)


def _keep_broken_pipes_errors() -> None:
    """Give SIGPIPE back to Python's handler. Concrete's compiler installs one that ends the process at a broken pipe."""
    known = signal.getsignal(signal.SIGPIPE)
    if known is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, known)


def run_encrypted(circuit: Any, value: Array, expected: Array, errors: float, shift: int = 0) -> EncryptedRun:
    """Run a circuit once with fresh keys and compare its results with the expected integers.

    Args:
        errors: how many results are expected to be wrong on average.
        shift: low bits of the results that hold noise only, and that are rounded away.

    Raises:
        InternalError: if more results are wrong than the average and six standard deviations.
    """
    specs = parse_specs(specs_text(circuit.client.specs))
    circuit.keygen(force=True)
    ciphertext = circuit.encrypt(value)
    started = time.process_time()
    result = circuit.run(ciphertext)
    seconds = time.process_time() - started
    _keep_broken_pipes_errors()
    wrong = np.count_nonzero(np.rint(circuit.decrypt(result) / 2**shift) != expected)
    if wrong > errors + 6 * math.sqrt(errors):
        raise InternalError(f"a circuit of Concrete gives another result than its integers ({specs.output_width} bits)")
    for frame, serialised in ((specs.request, ciphertext.serialize()), (specs.reply, result.serialize())):
        try:
            frame.unwrap(serialised)
        except ProtocolError as error:
            raise InternalError("this version of Concrete serialises ciphertexts in another way than version 2.10") from error
    return EncryptedRun(specs.request, specs.reply, circuit.keys.evaluation.serialize(), seconds)
