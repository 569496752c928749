"""Reads an ONNX file into a graph of aten calls.

`file` opens and checks the file, `inputs` makes its placeholders, `reading` goes through its nodes, and `values` defines what the
importers of operators receive. Each file that `operators` lists contains importers of one kind of operators.
"""

from hecompile.frontend.onnx.reading import import_onnx

__all__ = ["import_onnx"]
