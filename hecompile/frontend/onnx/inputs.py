"""Makes the inputs of an ONNX file placeholders, under the file's own names; the timestep becomes a scalar."""

from __future__ import annotations

import re

import onnx
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.sized import expand_to
from hecompile.frontend.onnx.file import OnnxFile
from hecompile.frontend.onnx.findings import EXPORT_AGAIN
from hecompile.frontend.onnx.values import DTYPES, graph_dtype, refuse_giants
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim, InputSpec, concrete_shape
from hecompile.ir.shapes import BATCHES, dtype_name, has_batch

__all__ = ["placeholders"]

CLOCK = "timestep"
Shape = tuple[Dim, ...]


def placeholders(builder: Builder, file: OnnxFile, public: frozenset[str]) -> dict[str, fx.Node]:
    """Add placeholders for all inputs that are not weights, and return them by the names that the file's nodes read.

    Raises:
        CompileError: with every input of a type or size that is not supported, and if none has a dynamic batch.
    """
    items = [item for item in file.model.graph.input if item.name not in file.weights]
    findings, shapes = list[Diagnostic](), dict[str, Shape]()
    for item in items:
        try:
            shapes[item.name] = _shape(item)
        except CompileError as error:
            findings += [Diagnostic(finding.message, source=file.name, help=finding.help) for finding in error.diagnostics]
    carriers = [key for key, shape in shapes.items() if key != CLOCK and has_batch(shape)]
    if not findings and not carriers:
        findings = _fixed_batch(shapes, public, file.name)
    if findings:
        raise CompileError(findings)
    values: dict[str, fx.Node] = {}
    for item in items:
        key, dtype = item.name, dtype_name(graph_dtype(DTYPES[item.type.tensor_type.elem_type]))
        clock = key == CLOCK
        spec = InputSpec(_own_name(key), (key,), () if clock else shapes[key], "float32" if clock else dtype, public=key in public)
        values[key] = builder.input(spec)
        if clock:
            values[key] = _clock(builder, values[key], shapes[key], dtype)
    return values


def _shape(item: onnx.ValueInfoProto) -> Shape:
    """Return the sizes of an input; a dynamic first one is the batch."""
    kind = item.type.tensor_type
    if not item.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise CompileError(
            Diagnostic(f"input {item.name} is not a tensor of floats, integers or bools", help="export it as a tensor of float32")
        )
    if not kind.HasField("shape"):
        raise CompileError(Diagnostic(f"input {item.name} has no shape", help="export with shapes; see onnx.shape_inference"))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else Batch() for dim in kind.shape.dim)
    if has_batch(shape[1:]):
        place = next(place for place, dim in enumerate(shape) if place and isinstance(dim, Batch))
        help_text = "export with fixed sizes; only the first dimension, the batch, may be dynamic"
        raise CompileError(Diagnostic(f"input {item.name}: dimension {place} is dynamic", help=help_text))
    refuse_giants(concrete_shape(shape, BATCHES[1]))
    return shape


def _fixed_batch(shapes: dict[str, Shape], public: frozenset[str], source: str) -> list[Diagnostic]:
    """Return errors for a file of which no input has a dynamic first dimension."""
    return [
        Diagnostic(f"input {key} has the fixed batch size {shape[0]}", source=source, help=EXPORT_AGAIN.format(repr(key)))
        for key, shape in shapes.items()
        if shape and key not in public and key != CLOCK
    ] or [Diagnostic("no input has a batch dimension", source=source, help=EXPORT_AGAIN.format("'sample'"))]


def _own_name(key: str) -> str:
    """Return the name of a placeholder. Only the input that is exactly `timestep` gets that name, since later passes rely on it."""
    alike = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_") == CLOCK
    return f"input_{key}" if alike and key != CLOCK else key


def _clock(builder: Builder, node: fx.Node, shape: Shape, dtype: str) -> fx.Node:
    """Return the scalar timestep in the shape and type that the file reads."""
    wanted = next(candidate for candidate in map(graph_dtype, DTYPES.values()) if dtype_name(candidate) == dtype)
    if dtype != "float32":
        node = builder.emit("aten.to.dtype", node, wanted)
    if not shape:
        return node
    node = builder.emit("aten.reshape.default", node, [1] * len(shape))
    return node if all(dim == 1 for dim in shape) else expand_to(builder, node, shape)
