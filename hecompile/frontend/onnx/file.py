"""Opens an ONNX file from an untrusted source: its format, its operators and its weights are checked before it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.findings import placed
from hecompile.frontend.onnx.values import DTYPES

__all__ = ["OPSETS", "OnnxFile", "open_onnx", "tensor_of"]

OPSETS = range(13, 26)
_STANDARD = ("", "ai.onnx")
_GROUPS_AT = range(18, 21)  # opsets whose GroupNormalization has a scale per group, and was deprecated later
_CONVERT = "or convert it: onnx.version_converter.convert_version(onnx.load('%s'), 17)"


@dataclass(frozen=True)
class OnnxFile:
    """A checked model: its name, its graph, its opset and its weights by name."""

    name: str
    model: onnx.ModelProto
    opset: int
    weights: dict[str, torch.Tensor]


def open_onnx(path: Path | bytes, name: str) -> OnnxFile:
    """Open a file and return the model with all its weights in memory.

    Raises:
        CompileError: if it is not valid ONNX, has data outside its folder, operators of another domain, or weights that are not
            finite.
    """
    try:
        model = onnx.load_model_from_string(path) if isinstance(path, bytes) else onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise CompileError(Diagnostic("not an ONNX file, or a truncated one", source=name)) from error
    _external(model, path, name)
    _check(model, path, name)
    opset = _domains(model, name)
    if not isinstance(path, bytes):
        try:
            external_data_helper.load_external_data_for_model(model, str(path.resolve().parent))
        except (onnx.checker.ValidationError, OSError, ValueError) as error:
            raise CompileError(Diagnostic(f"the weights beside the model cannot be read: {error}", source=name)) from error
    return OnnxFile(name, model, opset, _weights(model, name))


def _external(model: onnx.ModelProto, path: Path | bytes, name: str) -> None:
    """Refuse data in other files, except in a plain file beside the model."""
    for tensor in (*model.graph.initializer, *_attributes(model)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if isinstance(path, bytes):
            raise CompileError(Diagnostic(f"weights '{tensor.name}' are in another file", source=name, help="give the file's path"))
        beside = path.resolve().parent / where
        if not where or PurePath(where).name != where or "\\" in where or beside.is_symlink() or not beside.is_file():
            raise CompileError(
                Diagnostic(
                    f"weights '{tensor.name}' are in '{where}', not in a file beside the model",
                    source=name,
                    help="save the model again with its weights inside, or in one file of the same folder",
                )
            )


def _attributes(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors that nodes contain themselves."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _check(model: onnx.ModelProto, path: Path | bytes, name: str) -> None:
    """Check the format of the file with the `onnx` package."""
    if any(isinstance(text, bytes) for text in _names(model)):
        raise CompileError(Diagnostic("not a valid ONNX model: a name is not text", source=name))
    norms = _opset(model) in _GROUPS_AT and any(node.op_type == "GroupNormalization" for node in model.graph.node)
    try:
        if norms:
            onnx.checker.check_model(_with_known_norms(model))
        else:
            onnx.checker.check_model(path if isinstance(path, bytes) else str(path))
    except (onnx.checker.ValidationError, RuntimeError, ValueError, UnicodeDecodeError) as error:
        text = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise CompileError(Diagnostic(f"not a valid ONNX model: {text}", source=name)) from error


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Yield every name of the graph; protobuf gives bytes for a name that is not UTF-8."""
    graph = model.graph
    yield from (item.name for item in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (item.value for item in node.metadata_props)


def _with_known_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for the checker, which refuses GroupNormalization of these opsets.

    Each is replaced by an InstanceNormalization, which has the same inputs. Tensors of other files, which `_external` has checked,
    are empty.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "GroupNormalization" and node.domain in _STANDARD:
            node.op_type = "InstanceNormalization"
            kept = [attribute for attribute in node.attribute if attribute.name not in ("num_groups", "stash_type")]
            del node.attribute[:]
            node.attribute.extend(kept)
    for tensor in (*copy.graph.initializer, *_attributes(copy)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.Clear()
            tensor.MergeFrom(numpy_helper.from_array(np.zeros(0, np.float32)))
    for tensor, original in zip(copy.graph.initializer, model.graph.initializer, strict=True):
        tensor.name = original.name
    return copy


def _opset(model: onnx.ModelProto) -> int:
    return next((int(item.version) for item in model.opset_import if item.domain in _STANDARD), 0)


def _domains(model: onnx.ModelProto, name: str) -> int:
    """Return the opset of the standard domain, the only one whose operators are read."""
    help_text = "export with standard operators only; local functions: onnx.inliner.inline_local_functions(model)"
    findings = [
        placed(Diagnostic(f"operator {node.domain}.{node.op_type} is not of the ONNX standard", help=help_text), node, name)
        for node in model.graph.node
        if node.domain not in _STANDARD
    ]
    if findings:
        raise CompileError(findings)
    opset = _opset(model)
    if opset not in OPSETS:
        help_text = f"export with opset_version between {OPSETS[0]} and {OPSETS[-1]}, {_CONVERT % name}"
        raise CompileError(Diagnostic(f"opset {opset} is not supported", source=name, help=help_text))
    if model.graph.sparse_initializer:
        raise CompileError(Diagnostic("sparse weights are not supported", source=name, help="export them dense"))
    return opset


def tensor_of(proto: onnx.TensorProto) -> torch.Tensor:
    """Return the tensor of a proto, with half precision as float32. Raises `CompileError` for types that are not supported."""
    if proto.data_type not in DTYPES:
        kinds = onnx.TensorProto.DataType
        kind = kinds.Name(proto.data_type) if proto.data_type in kinds.values() else f"number {proto.data_type}"
        raise CompileError(Diagnostic(f"tensor '{proto.name}' is of type {kind}", help="export the model in float32"))
    try:
        array = np.array(numpy_helper.to_array(proto))
    except (ValueError, TypeError, RuntimeError, LookupError, OverflowError) as error:
        raise CompileError(f"tensor '{proto.name}' cannot be read: {error}") from error
    half = proto.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return torch.from_numpy(array.astype(np.float32) if half else array)


def _weights(model: onnx.ModelProto, name: str) -> dict[str, torch.Tensor]:
    """Return the weights by name. Raises `CompileError` with all that cannot be read or are not finite."""
    findings = list[Diagnostic]()
    weights = {proto.name: _finite(proto, name, findings) for proto in model.graph.initializer}
    for proto in _attributes(model):
        _finite(proto, name, findings)
    if findings:
        raise CompileError(findings)
    return weights


def _finite(proto: onnx.TensorProto, name: str, findings: list[Diagnostic]) -> torch.Tensor:
    """Return the tensor, and record an error if it has a NaN or infinity. Infinities among zeros are a mask or a limit, and are
    allowed."""
    try:
        tensor = tensor_of(proto)
    except CompileError as error:
        findings.extend(Diagnostic(finding.message, source=name, help=finding.help) for finding in error.diagnostics)
        return torch.zeros(())
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
        return tensor
    if bool(torch.isnan(tensor).any()) or bool(tensor[torch.isfinite(tensor)].any()):
        findings.append(Diagnostic(f"weights of {proto.name} are not finite", source=name, help="repair the checkpoint"))
    return tensor
