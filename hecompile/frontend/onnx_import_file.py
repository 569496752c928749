"""Opening an ONNX file that nobody vouches for: its form, its operators' origin and its weights are checked before it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx_import_values import DTYPES

__all__ = ["OPSETS", "open_onnx", "tensor_of"]

OPSETS = range(13, 26)
_STANDARD = ("", "ai.onnx")


def open_onnx(path: Path | bytes, name: str) -> tuple[onnx.ModelProto, int]:
    """The model with all its weights in memory, and its opset.

    Raises:
        CompileError: if it is no valid ONNX, has data outside its folder, operators of another domain or weights that are not
            finite.
    """
    try:
        model = onnx.load_model_from_string(path) if isinstance(path, bytes) else onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise CompileError(Diagnostic("not an ONNX file, or a truncated one", source=name)) from error
    _external(model, path, name)
    try:
        onnx.checker.check_model(path if isinstance(path, bytes) else str(path))
    except (onnx.checker.ValidationError, RuntimeError, ValueError, UnicodeDecodeError) as error:
        text = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise CompileError(Diagnostic(f"not a valid ONNX model: {text}", source=name)) from error
    opset = _domains(model, name)
    if not isinstance(path, bytes):
        try:
            external_data_helper.load_external_data_for_model(model, str(path.resolve().parent))
        except (onnx.checker.ValidationError, OSError, ValueError) as error:
            raise CompileError(Diagnostic(f"the weights beside the model cannot be read: {error}", source=name)) from error
    _finite(model, name)
    return model, opset


def _external(model: onnx.ModelProto, path: Path | bytes, name: str) -> None:
    """Data of other files: only of a plain file beside the model."""
    for tensor in _tensors(model):
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


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _domains(model: onnx.ModelProto, name: str) -> int:
    """The opset of the standard domain; the only one whose operators are read."""
    findings = [
        Diagnostic(
            f"operator {node.domain}.{node.op_type} is not of the ONNX standard",
            source=f"{name}:{node.name}",
            help="export with standard operators only; local functions: onnx.inliner.inline_local_functions(model)",
        )
        for node in model.graph.node
        if node.domain not in _STANDARD
    ]
    if findings:
        raise CompileError(findings)
    opset = next((item.version for item in model.opset_import if item.domain in _STANDARD), 0)
    if opset not in OPSETS:
        help_text = f"export with opset_version between {OPSETS[0]} and {OPSETS[-1]}"
        raise CompileError(Diagnostic(f"opset {opset} is not supported", source=name, help=help_text))
    if model.graph.sparse_initializer:
        raise CompileError(Diagnostic("sparse weights are not supported", source=name, help="export them dense"))
    return int(opset)


def tensor_of(proto: onnx.TensorProto) -> torch.Tensor:
    """The tensor of a proto. Raises `CompileError` for types that are not computed with."""
    if proto.data_type not in DTYPES:
        kind = onnx.TensorProto.DataType.Name(proto.data_type)
        raise CompileError(Diagnostic(f"tensor '{proto.name}' is of type {kind}", help="export the model in float32"))
    try:
        return torch.from_numpy(np.array(numpy_helper.to_array(proto)))
    except (ValueError, TypeError) as error:
        raise CompileError(f"tensor '{proto.name}' cannot be read: {error}") from error


def _finite(model: onnx.ModelProto, name: str) -> None:
    """No weight is NaN or infinite; a lone infinity is a limit or a mask's fill, not a weight."""
    findings: list[Diagnostic] = []
    for proto in _tensors(model):
        try:
            tensor = tensor_of(proto)
        except CompileError as error:
            findings.extend(Diagnostic(found.message, source=name, help=found.help) for found in error.diagnostics)
            continue
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        if tensor.numel() > 1 or bool(torch.isnan(tensor).any()):
            findings.append(Diagnostic(f"weights of {proto.name} are not finite", source=name, help="repair the checkpoint"))
    if findings:
        raise CompileError(findings)
