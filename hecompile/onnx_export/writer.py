"""Writes canonical graphs as ONNX: standard operators and one of ONNX Runtime's. Nothing depends on this machine, and equal graphs
give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import InternalError
from hecompile.ir.graph import Batch, info
from hecompile.onnx_attention import DOMAIN, DOMAIN_VERSION

if TYPE_CHECKING:
    from torch import fx

__all__ = ["EMITTERS", "OPSET", "Writer", "emits", "to_onnx"]

OPSET, IR_VERSION = 18, 9
DTYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
Emitter = Callable[["Writer", "fx.Node", Sequence[Any]], str]
EMITTERS: dict[str, Emitter] = {}


def emits(*names: str, namespace: str = "aten") -> Callable[[Emitter], Emitter]:
    """Register the function that writes canonical ops."""

    def register(function: Emitter) -> Emitter:
        for name in names:
            if f"{namespace}.{name}" in EMITTERS:
                raise InternalError(f"two emitters for {name}")
            EMITTERS[f"{namespace}.{name}"] = function
        return function

    return register


class Writer:
    """Nodes and constants of an ONNX graph while it is written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, onnx.NodeProto] = {}  # the node that computes each name
        self.names: dict[fx.Node, str] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        self._count = 0
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def call(
        self, kind: str, inputs: Sequence[str], output: str | None = None, *, domain: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one output, and return the output's name."""
        self._count += 1
        name = output or f"_{self._count}"
        self.made[name] = helper.make_node(kind, list(inputs), [name], name=f"n{self._count}", domain=domain, **attributes)
        self.nodes.append(self.made[name])
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant and return its name; equal constants are shared."""
        array = np.asarray(value, dtype, order="C")  # keeps scalars scalar, which ascontiguousarray() does not
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._shared:
            name = f"c{len(self._shared)}"
            self._shared[key] = name
            self.constants[name] = numpy_helper.from_array(array, name)
        return self._shared[key]

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(values, np.int64)


def value_shape(node: fx.Node) -> list[int | str]:
    """Return a value's shape as ONNX writes it."""
    return [str(dim) if isinstance(dim, Batch) else dim for dim in info(node).shape]


def to_onnx(module: fx.GraphModule, name: str) -> bytes:
    """Return a canonical graph as ONNX with all weights inside. Inputs have the names of their placeholders, outputs those of their
    nodes.

    Raises:
        InternalError: for a node outside the op table, or one that ONNX's checker refuses.
    """
    writer = Writer()
    names = writer.names
    inputs, outputs = [], []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            names[node] = node.name
            inputs.append(helper.make_tensor_value_info(node.name, DTYPES[info(node).dtype], value_shape(node)))
        elif node.op == "get_attr":
            target: Any = module
            for part in str(node.target).split("."):
                target = getattr(target, part)
            names[node] = writer.constant(target.detach().numpy())
        elif node.op == "output":
            outputs = [_output(writer, result, names[result]) for result in node.args[0]]
        else:
            names[node] = _emit(writer, node)
    nodes = _read_nodes(writer.nodes, {value.name for value in outputs})
    read = {name for node in nodes for name in node.input}  # a constant is unused if ONNX has its value as an attribute
    constants = [tensor for key, tensor in writer.constants.items() if key in read]
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain for node in nodes):
        opsets.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="hecompile")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InternalError(f"region '{name}' is not valid ONNX: {error}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _read_nodes(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes without those that no output depends on, such as moves of data that cancelled each other."""
    read, kept = set(outputs), list[onnx.NodeProto]()
    for node in reversed(nodes):
        if node.output[0] in read:
            read.update(node.input)
            kept.append(node)
    return kept[::-1]


def _output(writer: Writer, node: fx.Node, name: str) -> onnx.ValueInfoProto:
    if name != node.name or node.op == "placeholder":
        writer.call("Identity", [name], node.name)
    return helper.make_tensor_value_info(node.name, DTYPES[info(node).dtype], value_shape(node))


def _emit(writer: Writer, node: fx.Node) -> str:
    from torch import fx

    emitter = EMITTERS.get(str(node.target))
    if emitter is None:
        raise InternalError(f"there is no ONNX for %{node.name} ({node.target})")

    def resolve(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return writer.names[argument]
        if isinstance(argument, list | tuple):
            return [resolve(item) for item in argument]
        return argument

    return emitter(writer, node, resolve(list(node.args)))
