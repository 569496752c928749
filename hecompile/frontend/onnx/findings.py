"""Errors about a node that cannot be read: which node it is, its line in the file, and what to do instead."""

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
    """Return the node's name, or that of its first output for a node without a name."""
    return node.name or next((output for output in node.output if output), node.op_type)


def placed(finding: Diagnostic, node: onnx.NodeProto, file: str) -> Diagnostic:
    """Return the error with the node that it is about, its operator underlined, and a general way out if it names none."""
    line = f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})"
    start = line.find("= ") + 2
    mark = (start, start + len(node.op_type))
    return replace(finding, source=f"{file}:{label(node)}", line=line, underline=mark, help=finding.help or REWRITE)
