"""From an ONNX file to a graph of aten calls.

`file` opens and checks it, `inputs` makes its placeholders, `reading` walks its nodes, `values` says what they are given; the files
that `operators` lists read operators of one sort each.
"""

from hecompile.frontend.onnx.reading import import_onnx

__all__ = ["import_onnx"]
