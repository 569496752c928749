"""Lowers a region by Concrete ML: conv, activation, conv become one circuit with a table lookup for each activation.

Concrete ML 1.9 takes ONNX of its own opset and nothing of a new torch's exporter, so the region is exported here and given to
`compile_onnx_model`. Rounding before a table lookup is exact by
default: then the circuit equals the quantised module in the clear, up to `p_error`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.library import configuration, specs_text
from hecompile.backends.concrete.specs import Specs, parse_specs
from hecompile.errors import CompileError, Diagnostic, MissingExtraError, needing
from hecompile.ir.dequantizer import LARGEST
from hecompile.ir.linear import Array

if TYPE_CHECKING:
    from torch import fx

__all__ = ["WIDTHS", "CompiledRegion", "Quantiser", "Widths", "lower_region", "search_widths"]

OPSET = 14  # the newest ONNX opset that Concrete ML reads


@dataclass(frozen=True)
class Widths:
    """Bits of weights and activations, and of the input of a table lookup. The bits of accumulators follow from them."""

    bits: int
    lookup_bits: int | None  # None: all bits of the accumulator

    def __str__(self) -> str:
        return f"{self.bits} bits, table lookups of {self.lookup_bits or 'all'}"


WIDTHS = (Widths(3, 5), Widths(4, 5), Widths(4, 6), Widths(5, 6), Widths(6, 6))  # cheapest first


@dataclass(frozen=True)
class Quantiser:
    """Maps values to integers from `low` to `high`: value = scale (integer - zero).

    The scale is fixed when compiling, since a table lookup is made for one scale.
    """

    scale: float
    zero: npt.NDArray[np.float64]  # one number, or one per channel
    low: int
    high: int

    def quantise(self, value: Array) -> npt.NDArray[np.int64]:
        """Round values to integers and clip them to the range. NaN becomes zero; infinite values become the ends of the range."""
        finite = np.nan_to_num(value.astype(np.float64), nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        result: npt.NDArray[np.int64] = np.clip(np.rint(finite / self.scale + self.zero), self.low, self.high).astype(np.int64)
        return result

    def value(self, integers: Array) -> npt.NDArray[np.float32]:
        """The float32 values that integers stand for."""
        values = np.clip(self.scale * (integers - self.zero), -LARGEST, LARGEST)
        result: npt.NDArray[np.float32] = values.astype(np.float32)
        return result


@dataclass(frozen=True, eq=False)
class CompiledRegion:
    """A compiled region: the circuit, its quantisers, and Concrete ML's module that computes the same integers in the clear."""

    widths: Widths
    specs: Specs
    mlir: str
    complexity: float
    lookups: int  # bootstraps, those for rounding included
    key_bytes: int  # of the expanded keys; about half as much is sent
    p_error: float
    source: Quantiser
    result: Quantiser
    module: Any  # Concrete ML's QuantizedModule
    distortion_db: float  # PSNR against the float32 region on the calibration

    def __str__(self) -> str:
        return f"{self.widths}, {self.lookups} lookups, complexity {self.complexity:.3g}"

    def integers(self, source: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The circuit's results (B, C, H, W) for integers, computed in the clear."""
        result: npt.NDArray[np.int64] = np.asarray(self.module.quantized_forward(source, fhe="disable")).astype(np.int64)
        return result


def _concrete_ml() -> Any:
    """Concrete ML's `compile_onnx_model`. Raises `MissingExtraError` if it is not installed."""
    with needing("backend 'concrete_lookups'", "concrete"):
        from concrete.ml.torch.compile import compile_onnx_model
    return compile_onnx_model


def export(module: fx.GraphModule, example: Array) -> Any:
    """Export a region as the ONNX model that Concrete ML reads, at batch one."""
    import onnx
    import torch

    class Single(torch.nn.Module):
        """Returns a tensor instead of a tuple with one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.inner(value)[0]
            return result

    data: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated; the new one writes opsets that Concrete ML does not read
        torch.onnx.export(Single().eval(), (torch.from_numpy(example),), data, dynamo=False, opset_version=OPSET)
    return onnx.load_model_from_string(data.getvalue())


def _words(error: Exception) -> str:
    """The essence of Concrete's message: its first line and, where it prints a graph, the notes under the offending nodes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    notes = [line.lstrip("^ ") for line in lines if line.startswith("^")]
    return "; ".join([lines[0], *dict.fromkeys(notes)]) if notes else " ".join(lines)[:400]


def _quantiser(theirs: Any) -> Quantiser:
    """The quantiser with the numbers of Concrete ML's."""
    offset = int(theirs.offset)
    zero = np.asarray(theirs.zero_point, np.float64)
    return Quantiser(float(theirs.scale), zero, -offset, 2 ** int(theirs.n_bits) - 1 - offset)


def lower_region(model: Any, values: Array, reference: Array, widths: Widths, p_error: float, exact: bool = True) -> CompiledRegion:
    """Compile a region at the given widths. No keys are made.

    Raises:
        CompileError: with Concrete's own message if it refuses, for example because a table lookup would read an accumulator of
        more than 16 bits.
    """
    method = "exact" if exact else "approximate"
    rounding = None if widths.lookup_bits is None else {"n_bits": widths.lookup_bits, "method": method}
    try:
        module = _concrete_ml()(
            model, values, n_bits=widths.bits, rounding_threshold_bits=rounding, configuration=configuration(None),
            p_error=p_error,
        )  # fmt: skip
    except MissingExtraError:
        raise
    except Exception as error:  # Concrete ML raises ValueError, RuntimeError, AssertionError, NotImplementedError
        raise CompileError(
            Diagnostic(f"Concrete refuses the region at {widths}: {_words(error)}", help="use fewer bits")
        ) from error
    circuit = module.fhe_circuit
    got = module.forward(values, fhe="disable")
    span = float(reference.max() - reference.min()) or 1.0
    mse = float(np.mean((reference - got) ** 2))
    return CompiledRegion(
        widths,
        parse_specs(specs_text(circuit.client.specs)),
        circuit.mlir,
        float(circuit.complexity),
        int(circuit.programmable_bootstrap_count),
        int(circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys),
        p_error,
        _quantiser(module.input_quantizers[0]),
        _quantiser(module.output_quantizers[0]),
        module,
        float(10 * np.log10(span**2 / mse)) if mse else float("inf"),
    )


def search_widths(
    module: fx.GraphModule, values: Array, reference: Array, least_db: float, p_error: float, choices: Sequence[Widths] = WIDTHS
) -> CompiledRegion:
    """Compile a region at the cheapest widths that give it a PSNR of `least_db` or more against float32.

    Raises:
        CompileError: if no widths do, with the PSNR of each.
    """
    model, tried = export(module, values[:1]), list[str]()
    for widths in choices:
        try:
            compiled = lower_region(model, values, reference, widths, p_error)
        except CompileError as error:
            tried.append(error.diagnostics[0].message)
            continue
        if compiled.distortion_db >= least_db:
            return compiled
        tried.append(f"{widths}: {compiled.distortion_db:.1f} dB")
    reached = "; ".join(tried)
    advice = "lower --lookup-db, or use another backend"
    raise CompileError(Diagnostic(f"no bit widths give the region {least_db:g} dB: {reached}", help=advice))
