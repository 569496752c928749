"""The command line: `hecompile`, and `compile-model`, which is `hecompile compile` by its own name."""

from hecompile.cli.app import compile_model, main

__all__ = ["compile_model", "main"]
