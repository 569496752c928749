"""Canonical graphs as ONNX files: `to_onnx`."""

from __future__ import annotations

from hecompile.ir import onnx_layers, onnx_ops, onnx_own  # noqa: F401  (they register the emitters)
from hecompile.ir.onnx_writer import EMITTERS, OPSET, to_onnx

__all__ = ["EMITTERS", "OPSET", "to_onnx"]
