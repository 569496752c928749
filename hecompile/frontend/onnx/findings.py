"""What is said of a node that cannot be read: which node it is, its line in the file, and what helps."""

from __future__ import annotations

from dataclasses import replace

import onnx

from hecompile.errors import Diagnostic

__all__ = ["EXPORT_AGAIN", "REWRITE", "label", "placed"]

REWRITE = "rewrite it with operators that are supported, or run this part outside the compiled model"
EXPORT_AGAIN = (
    "export it with a dynamic batch, torch.onnx.export(..., dynamic_axes={{{0}: {{0: 'batch'}}}}), or with dynamo=True "
    "dynamic_shapes={{{0}: {{0: torch.export.Dim.DYNAMIC}}}}, and an example batch of 2"
)


def label(node: onnx.NodeProto) -> str:
    """The node's name; that of its first output for a node without one."""
    return node.name or next((output for output in node.output if output), node.op_type)


def placed(found: Diagnostic, node: onnx.NodeProto, file: str) -> Diagnostic:
    """The finding with the node that it is about, its operator marked, and a way out if it names none."""
    line = f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})"
    start = line.find("= ") + 2
    mark = (start, start + len(node.op_type))
    return replace(found, source=f"{file}:{label(node)}", line=line, underline=mark, help=found.help or REWRITE)
