"""Checks the types of an operator's inputs against the ONNX standard, since a file can be wrong about them."""

from __future__ import annotations

import onnx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call

__all__ = ["check_types"]

_CAST = "cast it to the type that the operator takes"


def check_types(call: Call) -> None:
    """Raise `CompileError` for floats, integers or bools where the operator takes none, or takes the same for two inputs and gets
    different ones."""
    schema = onnx.defs.get_schema(call.kind, call.opset)
    allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    kinds: dict[str, str] = {}
    for place, value in enumerate(call.given):
        if value is None or not schema.inputs:
            continue
        name = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
        kind = call.type_kind(value)
        if kind not in {_kind(text) for text in allowed.get(name, [name])}:
            raise CompileError(Diagnostic(f"{call.kind}: input {place} is of type {kind}", help=_CAST))
        if kinds.setdefault(name, kind) != kind:
            raise CompileError(Diagnostic(f"{call.kind} of types {kinds[name]} and {kind}", help=_CAST))


def _kind(text: str) -> str:
    """Return the kind of a type: `tensor(uint8)` -> `integer`."""
    if "bool" in text:
        return "bool"
    return "float" if "float" in text or "double" in text else "integer" if "int" in text else "other"
