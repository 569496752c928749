"""A session that multiplies matrices, for processes that import little."""

from __future__ import annotations

from onnx import TensorProto, helper

from hecompile.onnx_sessions import OnnxSession

__all__ = ["product_session"]


def product_session(threads: int) -> OnnxSession:
    """y = x x of 512x512, which so many threads share."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [512, 512]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "product", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return OnnxSession(model.SerializeToString(), threads)
