"""Graphs as text, one line per node: for golden files and for errors that point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.ir.graph import ModelGraph, info

if TYPE_CHECKING:
    from torch import fx

__all__ = ["print_graph", "print_node"]


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


def print_node(node: fx.Node) -> str:
    """`%y = silu(%x)  # secret<Bx16x8x8 float32> path source`"""
    record = info(node)
    if node.op == "call_function":
        call = str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)
        args = [_argument(argument) for argument in node.args]
        args += [f"{key}={_argument(value)}" for key, value in node.kwargs.items()]
        text = f"%{node.name} = {call}({', '.join(args)})"
    else:
        text = f"%{node.name} = {'input' if node.op == 'placeholder' else 'constant'}"
    where = [part for part in (record.domain, record.region, record.path, record.source) if part]
    return "  ".join([f"{text}  # {record}", *where])


def print_graph(graph: ModelGraph) -> str:
    """Every node but constants, which show where they are used, and the outputs."""
    lines = [print_node(node) for node in graph.nodes if node.op != "get_attr"]
    return "\n".join([*lines, f"output({', '.join('%' + name for name in graph.outputs)})", ""])
