"""Every importer of an operator, registered."""

import hecompile.frontend.onnx_import.activations
import hecompile.frontend.onnx_import.arithmetic
import hecompile.frontend.onnx_import.attention
import hecompile.frontend.onnx_import.constants
import hecompile.frontend.onnx_import.indexing
import hecompile.frontend.onnx_import.linear
import hecompile.frontend.onnx_import.norms
import hecompile.frontend.onnx_import.padding
import hecompile.frontend.onnx_import.places
import hecompile.frontend.onnx_import.pools
import hecompile.frontend.onnx_import.reductions
import hecompile.frontend.onnx_import.resize
import hecompile.frontend.onnx_import.shapes
import hecompile.frontend.onnx_import.windows  # noqa: F401

__all__: list[str] = []
