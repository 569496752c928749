"""ONNX files of a few nodes, and how far what is read of them is from what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import CompileError
from hecompile.frontend.onnx import import_onnx
from hecompile.ir.graph import ModelGraph
from hecompile.ir.verify import verify_graph
from hecompile.passes.canonicalize import Canonicalize

Array = npt.NDArray[np.generic]
TOLERANCE = 2e-6  # of the largest entry: float32 sums of a few dozen products, in another order
PICTURE = ("B", 4, 8, 8)


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def node(kind: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), name: str = "", **more: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), list(outputs), name=name, **more)


def file_of(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Array] | None = None,
    shape: Sequence[int | str] = PICTURE,
    opset: int = 17,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
) -> bytes:
    """A file from `x` (or `inputs`, names with their shapes) to `y` (or `outputs`)."""
    given = [helper.make_tensor_value_info(name, kind, sizes) for name, sizes in (inputs or {"x": shape}).items()]
    results = [helper.make_tensor_value_info(name, result, ["rows"]) for name in outputs]  # their shapes are not read
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", given, results, kept)
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10).SerializeToString()
    return data


def canonical(data: bytes) -> ModelGraph:
    """The canonical graph of a file, verified."""
    graph = Canonicalize().run(import_onnx(data, frozenset()))
    verify_graph(graph)
    return graph


def calls(data: bytes) -> list[str]:
    """The operations of a file's canonical graph, by their short names."""
    return [str(node.target).split(".")[1] for node in canonical(data).nodes if node.op == "call_function"]


def feeds_of(data: bytes, batch: int) -> dict[str, Array]:
    """Random inputs of a file, in the types that it declares."""
    feeds = dict[str, Array]()
    graph = onnx.load_model_from_string(data).graph
    for place, item in enumerate(graph.input):
        sizes = [dim.dim_value if dim.HasField("dim_value") else batch for dim in item.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        values = normal(*sizes, seed=10 * batch + place)
        feeds[item.name] = values.astype(dtype) if dtype.kind == "f" else np.abs(4 * values).astype(dtype)
    return feeds


def reference(data: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes."""
    options, model = onnxruntime.SessionOptions(), onnx.load_model_from_string(data)
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, dict(feeds))
    return results


def difference(data: bytes, batches: Sequence[int] = (1, 3), feeds: Mapping[str, Array] | None = None) -> float:
    """The largest difference to ONNX Runtime at these batch sizes, relative to its largest entry; infinite for other shapes."""
    graph, worst = canonical(data), 0.0
    for batch in batches:
        given = feeds or feeds_of(data, batch)
        types = {"float16": np.float32, "float64": np.float32, "int8": np.int32, "uint8": np.int32, "int16": np.int32}
        own = [torch.from_numpy(np.asarray(given[str(spec.keyword[0])])) for spec in graph.inputs]
        own = [torch.from_numpy(value.numpy().astype(types.get(str(value.numpy().dtype), value.numpy().dtype))) for value in own]
        for result, expected in zip(graph(*own), reference(data, given), strict=True):
            if tuple(result.shape) != expected.shape:
                return float("inf")
            wanted = expected.astype(np.float64)
            scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-6))
            with np.errstate(invalid="ignore"):
                gap = np.abs(result.numpy().astype(np.float64) - wanted)
            same = (result.numpy() == wanted) | (np.isnan(result.numpy()) & np.isnan(wanted))
            worst = max(worst, float(np.where(same, 0.0, gap).max(initial=0.0)) / scale)
    return worst


def refusal(data: bytes) -> CompileError:
    """The error that a file is refused with, on the way to a canonical graph."""
    with pytest.raises(CompileError) as caught:
        canonical(data)
    return caught.value
