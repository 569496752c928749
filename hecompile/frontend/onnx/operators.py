"""Imports every file of importers, which registers them."""

import hecompile.frontend.onnx.activations
import hecompile.frontend.onnx.arithmetic
import hecompile.frontend.onnx.attention
import hecompile.frontend.onnx.constants
import hecompile.frontend.onnx.indexing
import hecompile.frontend.onnx.linear
import hecompile.frontend.onnx.norms
import hecompile.frontend.onnx.padding
import hecompile.frontend.onnx.places
import hecompile.frontend.onnx.pools
import hecompile.frontend.onnx.reductions
import hecompile.frontend.onnx.resize
import hecompile.frontend.onnx.shapes
import hecompile.frontend.onnx.windows  # noqa: F401

__all__: list[str] = []
