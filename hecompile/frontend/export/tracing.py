"""Traces a module and its example call with `torch.export`."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import Any

import torch
import torch.utils._pytree as pytree

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.arguments import ExampleCall
from hecompile.frontend.canonical.causal import masks_as_given
from hecompile.frontend.canonical.several import is_split
from hecompile.frontend.sources import Source
from hecompile.ir.shapes import BATCHES

__all__ = ["exported_program"]


class _Called(torch.nn.Module):
    """A module whose `*rest` and `**named` arguments are a tuple and a dictionary, so that torch.export can name them."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.called = module

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.called(*args, **kwargs)


def exported_program(source: Source, call: ExampleCall) -> torch.export.ExportedProgram:
    """Return the module as torch.export traces it, with a dynamic batch. Raises `CompileError` with the model's line if it cannot
    be traced."""
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for tensor in pytree.tree_leaves((call.args, dict(call.kwargs))):
        if isinstance(tensor, torch.Tensor) and tensor.dim() and tensor.shape[0] == BATCHES[0]:
            shapes[tensor] = {0: torch.export.Dim.DYNAMIC}
    module, args, kwargs = source.module, call.args, dict(call.kwargs)
    if call.open_ended:
        module, args, kwargs = _Called(module), (args, kwargs), {}
    try:
        # opt_einsum, where it is installed, would order products by their sizes, which would fix the batch size
        with torch.no_grad(), masks_as_given(), torch.backends.opt_einsum.flags(enabled=False):
            program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)  # type: ignore[arg-type]
            simple: torch.export.ExportedProgram = program if _is_simple(program) else program.run_decompositions(_decompositions())
            return simple
    except Exception as error:  # torch.export raises many kinds
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise CompileError(
            Diagnostic(
                f"torch cannot trace {source.name}: {text[0]}",
                source=_raised_at(error),
                help="call it once with the example inputs; control flow must not depend on values, the batch must be the first "
                "dimension, and results are tensors in tuples, lists or dictionaries",
            )
        ) from error


def _raised_at(error: BaseException) -> str:
    """Return the innermost line of the model that an error passed through; empty if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        own = [frame for frame in frames if "/torch/" not in frame.filename and frame.filename != __file__]
        if own:
            return f"{PurePath(own[-1].filename).name}:{own[-1].lineno}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _is_simple(program: torch.export.ExportedProgram) -> bool:
    """Return whether every call has a rule already and changes nothing in place, so that decomposing would only trace it a second
    time."""
    from hecompile.frontend.canonical.rules import RULES
    from hecompile.ir.ops import OPS

    for node in program.graph.nodes:
        name, schema = str(node.target), getattr(node.target, "_schema", None)
        if node.op == "call_function" and not (name.startswith("aten.sym_") or "getitem" in name):
            known = name in RULES or name in OPS or (schema is not None and is_split(name))
            if not known or schema is None or schema.is_mutable:
                return False
    return True


def _decompositions() -> Any:
    """Return torch's decompositions into simpler calls, for the calls without a rule."""
    from hecompile.frontend.canonical.rules import RULES
    from hecompile.ir.ops import OPS

    table: Any = torch.export.default_decompositions()
    for operator in list(table):
        if str(operator) in RULES or str(operator) in OPS or is_split(str(operator)):
            table.pop(operator)
    return table
