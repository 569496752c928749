"""Reads the nodes of an ONNX file as aten calls whose sizes are integers or multiples of the batch, and reports all errors at
once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from torch import fx

import hecompile.frontend.onnx.operators  # noqa: F401  (importers register themselves)
from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.batch import written_in
from hecompile.frontend.onnx.file import OnnxFile, open_onnx
from hecompile.frontend.onnx.findings import label, placed
from hecompile.frontend.onnx.inputs import placeholders
from hecompile.frontend.onnx.types import check_types
from hecompile.frontend.onnx.values import IMPORTERS, Call, Known, Value
from hecompile.ir.builder import Builder, Origin
from hecompile.ir.graph import ModelGraph
from hecompile.ir.signature import Results, Signature

__all__ = ["import_onnx"]


@dataclass
class _Reading:
    """A file while it is read. A value is None if an error was recorded for it."""

    file: OnnxFile
    builder: Builder
    values: dict[str, Value | None]
    findings: list[Diagnostic] = field(default_factory=list)
    absent: dict[str, Diagnostic] = field(
        default_factory=dict
    )  # outputs that are not supported, which are errors only if they are read

    def value(self, name: str) -> Value | None:
        """Return a value by its name in the file; asking for an absent one is an error."""
        if name in self.absent:
            self.findings.append(self.absent.pop(name))
        return self.values.get(name)


def import_onnx(path: Path | bytes, public: frozenset[str]) -> ModelGraph:
    """Read a file as torch.onnx.export writes it.

    Inputs keep their names and order, and `timestep` becomes a float32 scalar. Several outputs become a tuple, in the file's order.

    Args:
        public: names of the inputs that are not secret.

    Raises:
        CompileError: with all errors, if the file is damaged or unsafe, contains operators that are not supported, or has a fixed
            batch size.
    """
    file = open_onnx(path, "model.onnx" if isinstance(path, bytes) else path.name)
    nodes = file.model.graph.node
    unsupported = [_refused(node, file.name) for node in nodes if node.op_type not in IMPORTERS]
    if unsupported:
        raise CompileError(unsupported)
    builder = Builder(fold=False)
    values: dict[str, Value | None] = {name: Known(tensor, tensor, name) for name, tensor in file.weights.items()}
    reading = _Reading(file, builder, {**values, **placeholders(builder, file, public)})
    for node in nodes:
        _read(reading, node)
    outputs = _outputs(reading)
    if reading.findings:
        raise CompileError(reading.findings)
    graph = builder.finish(outputs, Path(file.name).stem, {})
    return replace(graph, signature=Signature(results=_results_of(len(outputs))))


def _results_of(count: int) -> Results:
    """Return the structure of the results: the one output, or a tuple of all in the file's order."""
    return Results() if count == 1 else Results("tuple", items=tuple(Results(place=place) for place in range(count)))


def _refused(node: onnx.NodeProto, file: str) -> Diagnostic:
    return placed(Diagnostic(f"{node.op_type} is not supported"), node, file)


def _read(reading: _Reading, node: onnx.NodeProto) -> None:
    """Add the outputs of a node to the values."""
    reading.builder.origin = _origin(node, reading.file.name)
    given = [reading.value(name) if name else None for name in node.input]
    outputs = [name for name in node.output if name]
    if any(name and value is None for name, value in zip(node.input, given, strict=True)):
        reading.values.update(dict.fromkeys(outputs))  # an earlier error says why
        return
    try:
        results = _results(reading, node, given)
    except CompileError as error:
        reading.findings += [placed(finding, node, reading.file.name) for finding in error.diagnostics]
        reading.values.update(dict.fromkeys(outputs))
        return
    for place, name in enumerate(node.output):
        if name and place < len(results):
            reading.values[name] = results[place]
        elif name:
            finding = Diagnostic(f"{node.op_type}: its output '{name}' is not supported", help=_without(node, place))
            reading.absent[name] = placed(finding, node, reading.file.name)


def _without(node: onnx.NodeProto, place: int) -> str:
    return f"use the first {place} outputs of {node.op_type} only" if place > 1 else f"use the first output of {node.op_type} only"


def _results(reading: _Reading, node: onnx.NodeProto, given: Sequence[Value | None]) -> Sequence[Value]:
    """Return the outputs of the node. Anything that a malformed node can raise becomes a `CompileError`."""
    try:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        call = Call(reading.builder, node.op_type, reading.file.opset, tuple(given), attributes, len(node.output))
        check_types(call)
        try:
            results: Any = IMPORTERS[node.op_type](call)
        except (CompileError, RuntimeError) as error:
            fixed = written_in(call, list(node.input))
            if fixed is not None:
                raise CompileError(fixed) from error
            raise
    except CompileError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CompileError(f"{node.op_type} cannot be read: {text}") from error
    return [results] if isinstance(results, fx.Node | Known) else list(results)


def _origin(node: onnx.NodeProto, name: str) -> Origin:
    """Return the module path, from the exporter's metadata or from a name such as `/mid_block/resnets.0/conv1/Conv`."""
    scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "")
    parts = re.findall(r"'([^']*)'", scopes)[-2:-1] or [".".join(label(node).split("/")[1:-1])]
    return Origin(parts[0], f"{name}:{label(node)}")


def _outputs(reading: _Reading) -> list[fx.Node]:
    """Return the graph's results in the file's order. A result that is not computed from the inputs is an error."""
    nodes = list[fx.Node]()
    inputs = {spec.name: spec.keyword[0] for spec in reading.builder.inputs}
    for item in reading.file.model.graph.output:
        value = reading.value(item.name)
        if isinstance(value, fx.Node) and value.op != "placeholder":
            nodes.append(value)
        elif value is not None:
            what = "a constant" if isinstance(value, Known) else f"the input '{inputs[value.name]}', unchanged"
            finding = f"output '{item.name}' is {what}: there is nothing to compile"
            help_text = "leave it out of the model's outputs, and make it outside of the compiled model"
            reading.findings.append(Diagnostic(finding, source=reading.file.name, help=help_text))
        elif item.name not in reading.values and not reading.findings:
            reading.findings.append(Diagnostic(f"no node computes the output '{item.name}'", source=reading.file.name))
    if not nodes and not reading.findings:
        reading.findings.append(Diagnostic("the model has no outputs", source=reading.file.name))
    return nodes
