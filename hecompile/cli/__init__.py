"""The command line: the command `hecompile`, and `compile-model`, which does the same as `hecompile compile`."""

from hecompile.cli.app import compile_model, main

__all__ = ["compile_model", "main"]
