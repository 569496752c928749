"""From an ONNX file to a graph of aten calls whose sizes are integers or multiples of the batch."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend import onnx_import_layers, onnx_import_math, onnx_import_shapes  # noqa: F401  (they register importers)
from hecompile.frontend.builder import Builder, Origin
from hecompile.frontend.onnx_import_file import open_onnx, tensor_of
from hecompile.frontend.onnx_import_values import DTYPES, IMPORTERS, Call, Known, Value
from hecompile.frontend.sized import expand_to
from hecompile.ir.graph import Batch, Dim, InputSpec, ModelGraph
from hecompile.ir.shapes import dtype_name, has_batch

__all__ = ["import_onnx"]

_DYNAMIC = (
    "export it again with a dynamic batch: torch.onnx.export(..., dynamic_axes={'%s': {0: 'batch'}}), or with dynamo=True "
    "dynamic_shapes={'%s': {0: torch.export.Dim.DYNAMIC}}, and an example batch of 2"
)
_WAY_OUT = "rewrite it with operators that are supported, or run this part outside the compiled model"


def import_onnx(path: Path | bytes, public: frozenset[str]) -> ModelGraph:
    """Read a file as torch.onnx.export writes it. Inputs keep their names and order; `timestep` becomes a float32 scalar.

    Args:
        public: names of the inputs that are not secret.

    Raises:
        CompileError: with every finding, if the file is broken or unsafe, holds operators that are not supported, or its batch is
            fixed.
    """
    name = "model.onnx" if isinstance(path, bytes) else path.name
    model, opset = open_onnx(path, name)
    unsupported = [_unsupported(node, name) for node in model.graph.node if node.op_type not in IMPORTERS]
    if unsupported:
        raise CompileError(unsupported)
    builder, findings = Builder(fold=False), list[Diagnostic]()
    values: dict[str, Value | None] = {
        proto.name: Known(tensor, tensor, proto.name) for proto in model.graph.initializer for tensor in [tensor_of(proto)]
    }
    values |= _inputs(builder, model, set(values), public, name)
    for node in model.graph.node:
        builder.origin = _origin(node, name)
        if any(item and values[item] is None for item in node.input):
            values.update(dict.fromkeys(node.output))  # an earlier finding says why
            continue
        try:
            results = _call(builder, node, opset, values)
        except CompileError as error:
            findings.extend(_placed(found, node, name) for found in error.diagnostics)
            results = [None] * len(node.output)
        values.update(zip(node.output, results, strict=True))
    if findings:
        raise CompileError(findings)
    outputs = [_output(builder, values[item.name]) for item in model.graph.output]
    return builder.finish(outputs, Path(name).stem, {})


def _call(builder: Builder, node: onnx.NodeProto, opset: int, values: dict[str, Value | None]) -> Sequence[Value | None]:
    """What the node gives. Anything that a malformed node can raise becomes a `CompileError`."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    given = tuple(values[item] if item else None for item in node.input)
    call = Call(builder, node.op_type, opset, given, attributes, len(node.output))
    try:
        results: Any = IMPORTERS[node.op_type](call)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CompileError(f"{node.op_type}: {text}") from error
    results = [results] if isinstance(results, fx.Node | Known) else list(results)
    if len(results) < len([item for item in node.output if item]):
        raise CompileError(f"{node.op_type}: only its first {len(results)} outputs are supported")
    return [*results, *[None] * (len(node.output) - len(results))]


def _output(builder: Builder, value: Value | None) -> fx.Node:
    if value is None:
        raise CompileError("an output that no node computes")
    return Call(builder, "output", 0, (), {}, 1).node(value)


def _unsupported(node: onnx.NodeProto, name: str) -> Diagnostic:
    line = f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})"
    start = line.find("= ") + 2
    underline = (start, start + len(node.op_type))
    return Diagnostic(f"{node.op_type} is not supported", f"{name}:{node.name}", line, underline, _WAY_OUT)


def _placed(found: Diagnostic, node: onnx.NodeProto, name: str) -> Diagnostic:
    return Diagnostic(found.message, f"{name}:{node.name}", found.line, found.underline, found.help or _WAY_OUT)


def _origin(node: onnx.NodeProto, name: str) -> Origin:
    """The module path: from the exporter's metadata, or from a name such as `/mid_block/resnets.0/conv1/Conv`."""
    scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "")
    parts = re.findall(r"'([^']*)'", scopes)[-2:-1] or [".".join(node.name.split("/")[1:-1])]
    return Origin(parts[0], f"{name}:{node.name}")


def _inputs(builder: Builder, model: onnx.ModelProto, skipped: set[str], public: frozenset[str], name: str) -> dict[str, fx.Node]:
    """Placeholders for all inputs that are not weights; the values that the file's nodes read."""
    findings: list[Diagnostic] = []
    shapes: dict[str, tuple[Dim, ...]] = {}
    real = [item for item in model.graph.input if item.name not in skipped]
    for item in real:
        if not item.type.HasField("tensor_type") or item.type.tensor_type.elem_type not in DTYPES:
            findings.append(Diagnostic(f"input {item.name} is no tensor of float32 or integers", source=name))
            continue
        dims = item.type.tensor_type.shape.dim
        grows = [not dim.HasField("dim_value") for dim in dims]
        if any(grows[1:]):
            help_text = "export with fixed sizes; only the first dimension, the batch, may be dynamic"
            findings.append(
                Diagnostic(f"input {item.name}: dimension {grows.index(True, 1)} is dynamic", source=name, help=help_text)
            )
        shapes[item.name] = tuple(Batch() if grow else dim.dim_value for grow, dim in zip(grows, dims, strict=True))
    carriers = [shape for key, shape in shapes.items() if key != "timestep" and has_batch(shape)]
    if not findings and not carriers:
        findings = [
            Diagnostic(f"input {key} has the fixed batch {shape[0]}", source=name, help=_DYNAMIC % (key, key))
            for key, shape in shapes.items()
            if shape and key not in public and key != "timestep"
        ] or [Diagnostic("no input has a batch", source=name, help=_DYNAMIC % ("sample", "sample"))]
    if findings:
        raise CompileError(findings)
    kinds = {item.name: dtype_name(DTYPES[item.type.tensor_type.elem_type]) for item in real}
    values: dict[str, fx.Node] = {}
    for key, shape in shapes.items():
        clock = key == "timestep"
        spec = InputSpec(_identifier(key), (key,), () if clock else shape, "float32" if clock else kinds[key], key in public)
        values[key] = builder.input(spec)
    for key in {"timestep"} & set(values):
        values[key] = _clock(builder, values[key], shapes[key], kinds[key])
    return values


def _identifier(name: str) -> str:
    """A name that a Python function's parameter may have."""
    name = re.sub(r"\W", "_", name)
    name = f"input_{name}" if not name or name[0].isdigit() else name
    return f"{name}_input" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def _clock(builder: Builder, node: fx.Node, shape: tuple[Dim, ...], kind: str) -> fx.Node:
    """The scalar timestep as the file wants it."""
    dtype = next(dtype for dtype in DTYPES.values() if dtype_name(dtype) == kind)
    if kind != "float32":
        node = builder.emit("aten.to.dtype", node, dtype)
    if not shape:
        return node
    node = builder.emit("aten.reshape.default", node, [1] * len(shape))
    return node if all(dim == 1 for dim in shape) else expand_to(builder, node, shape)
