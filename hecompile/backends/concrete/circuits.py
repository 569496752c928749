"""A linear layer as a circuit of Concrete without lookups: convolutions without padding, side by side.

Everything in the circuit has one scale and one width, so nothing is requantised and no evaluation key is needed.
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
from hecompile.backends.concrete.limits import Limits
from hecompile.backends.concrete.spans import Span, bounds_of, spans_of
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.backends.concrete.windows import largest_result, quantise_windows
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.linear import Array, Geometry

__all__ = [
    "Circuit", "Trial", "beside", "convolution", "convolved", "framed", "linear_circuit",
]  # fmt: skip


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


def _kernel(geometry: Geometry, weights: Array) -> Array:
    """Weights (rows, C', K) as a kernel (rows, C', kh, kw)."""
    (top, height), (left, width) = (bounds_of(geometry, axis) for axis in (0, 1))
    kernel = np.zeros((*weights.shape[:2], height, width), np.int64)
    for place, (dy, dx) in enumerate(geometry.taps):
        kernel[:, :, dy - top, dx - left] = weights[:, :, place]
    return kernel


def convolution(x: Any, geometry: Geometry, weights: Array, largest: int) -> Any:
    """Pictures (1, C', H', W') in a circuit, whose values are at most `largest`, to results (1, rows, grid)."""
    hint, kernel = concrete().hint, _kernel(geometry, weights)
    rows, columns = (spans_of(geometry, axis) for axis in (0, 1))

    def piece(row: Span, column: Span) -> Any:
        taps = kernel[:, :, row.taps, column.taps]
        if taps.size:
            return hint(concrete().conv(x[:, :, row.window, column.window], taps), can_store=-largest - 1)
        zero = hint(concrete().conv(x[:, :, :1, :1], np.zeros((*kernel.shape[:2], 1, 1), np.int64)), can_store=-largest - 1)
        return beside([beside([zero] * (column.stop - column.start), 3)] * (row.stop - row.start), 2)

    return hint(beside([beside([piece(row, column) for column in columns], 3) for row in rows], 2), can_store=-largest - 1)


def linear_circuit(geometry: Geometry, weights: npt.NDArray[np.int8], limits: Limits, p_error: float) -> Circuit:
    """The circuit from pictures (1, C', H', W') within their limits to results (1, rows, grid), tried once, encrypted.

    Raises:
        InternalError: if the trial gives another result than the integers.
    """
    largest, shape = largest_result(geometry, weights, limits), (1, *geometry.picture)
    spike = np.zeros(shape, np.int64)
    spike[0, 0, -1, -1] = limits.entry  # bounds of the input; those of the result are told
    signs = np.ones(shape, np.int64)  # no piece of the picture is of zeros alone
    inputs = [spike, -spike, signs, -signs]
    compiler = concrete().Compiler(lambda x: convolution(x, geometry, weights, largest), {"x": "encrypted"})
    circuit = compiler.compile(inputs, configuration(p_error))
    drawn = np.random.default_rng(0).integers(-limits.entry, limits.entry + 1, shape)
    value, _ = quantise_windows(drawn, geometry, limits)
    expected = convolved(value, geometry, weights)
    trial = framed(circuit, value, expected, p_error * expected.size)
    specs = parse_specs(specs_text(circuit.client.specs))
    return Circuit(specs, circuit.mlir, float(circuit.complexity), largest, trial)


def beside(pieces: list[Any], axis: int) -> Any:
    """One value of several in a circuit."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(tuple(pieces), axis=axis)


def convolved(picture: Array, geometry: Geometry, weights: npt.NDArray[np.int8]) -> Array:
    """The result in the clear."""
    from hecompile.ir.linear import correlate

    return correlate(picture, weights.astype(np.int64), geometry.taps, geometry.grid)


def _keep_broken_pipes_errors() -> None:
    """Set SIGPIPE back to what Python knows: Concrete's compiler takes it for a crash, and the process would end with it."""
    known = signal.getsignal(signal.SIGPIPE)
    if known is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, known)


def framed(circuit: Any, value: Array, expected: Array, errors: float, shift: int = 0) -> Trial:
    """One encrypted run with fresh keys, of whose results, rounded to so many low bits, `errors` are wrong in the mean.

    Raises:
        InternalError: if the run gives other integers than expected, more often than six standard deviations above the mean.
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
            raise InternalError("this Concrete serialises ciphertexts otherwise than version 2.10") from error
    return Trial(specs.request, specs.reply, circuit.keys.evaluation.serialize(), seconds)
