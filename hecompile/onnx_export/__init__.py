"""Writes canonical graphs as ONNX files: `to_onnx`."""

from __future__ import annotations

from hecompile.onnx_export import attention, layers, moves, ops, own  # noqa: F401  (they register the emitters)
from hecompile.onnx_export.writer import EMITTERS, OPSET, to_onnx

__all__ = ["EMITTERS", "OPSET", "to_onnx"]
