"""Writes graphs as text, one line per node, for `--dump-ir`, golden files and error messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hecompile.ir.graph import ModelGraph, info

if TYPE_CHECKING:
    from torch import fx

__all__ = ["print_call", "print_graph", "print_node"]


def _argument(argument: object) -> str:
    name = getattr(argument, "name", None)
    if name is not None and hasattr(argument, "op"):
        if argument.op == "get_attr":
            shape = "x".join(map(str, info(argument).shape)) or "scalar"
            return f"{name}<{shape}>"
        return f"%{name}"
    if isinstance(argument, list | tuple):
        return f"[{', '.join(_argument(item) for item in argument)}]"
    if isinstance(argument, float):
        return f"{argument:.6g}"
    return str(argument)


def print_call(target: str, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return a call as text, such as `silu(%x)`."""
    parts = [_argument(argument) for argument in args]
    parts += [f"{key}={_argument(value)}" for key, value in kwargs.items()]
    return f"{target.split('.')[1] if '.' in target else target}({', '.join(parts)})"


def print_node(node: fx.Node) -> str:
    """Return a node as text, such as `%y = silu(%x)  # secret<Bx16x8x8 float32>  path  source`."""
    record = info(node)
    if node.op == "call_function":
        text = f"%{node.name} = {print_call(str(node.target), node.args, node.kwargs)}"
    else:
        text = f"%{node.name} = {'input' if node.op == 'placeholder' else 'constant'}"
    where = [part for part in (record.domain, record.region, record.path, record.source) if part]
    return "  ".join([f"{text}  # {record}", *where])


def print_graph(graph: ModelGraph) -> str:
    """Return the graph as text: a line for every node that is no constant, and one for the outputs."""
    lines = [print_node(node) for node in graph.nodes if node.op != "get_attr"]
    return "\n".join([*lines, f"output({', '.join('%' + name for name in graph.outputs)})", ""])
