"""The inputs and results of an exported program: its placeholders by keyword, and its results without what it changed in place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.arguments import ExampleCall
from hecompile.ir.signature import Keyword, Results

__all__ = ["keywords_of", "name_for", "refuse_state", "results_of_export"]

_ROLES = ("sample", "timestep")  # names that have a meaning for later passes


def keywords_of(call: ExampleCall) -> list[Keyword]:
    """Return the keyword of every tensor and constant of the call, in the order in which torch.export lists them."""
    rest = next((name[1:] for name in call.arguments if name.startswith("*")), "")
    places = [name for name in call.arguments if not name.startswith("*")]
    keywords: list[Keyword] = []
    for path, _ in pytree.tree_flatten_with_path((call.args, dict(call.kwargs)))[0]:
        parts: list[Any] = [getattr(part, "idx", getattr(part, "key", getattr(part, "name", None))) for part in path]
        side, first, *inner = parts
        if side == 1:
            keywords.append((str(first), *inner))
        elif first < len(places) and not (rest and first >= len(places)):
            keywords.append((places[first], *inner))
        else:
            keywords.append((rest, first - len(places), *inner))
    return keywords


def name_for(keyword: Keyword) -> str:
    """Return the name of an input: the last name in its keyword and the indices after it, or the whole path where that would take a
    reserved name of another input."""
    last = max(place for place, part in enumerate(keyword) if isinstance(part, str))
    parts = keyword if len(keyword) > 1 and keyword[last] in _ROLES else keyword[last:]
    return "_".join(str(part) for part in parts)


def refuse_state(program: torch.export.ExportedProgram, name: str) -> None:
    """Raise `CompileError` if a result depends on a buffer that the call changes, since nothing is kept between calls."""
    signature = program.graph_signature
    changed = set(signature.buffers_to_mutate.values())
    results = {spec.arg.name for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT" and hasattr(spec.arg, "name")}
    buffers = {spec.arg.name: str(spec.target) for spec in signature.input_specs if spec.target in changed}
    reached = set(buffers)
    for node in program.graph.nodes:
        if node.op != "output" and any(argument.name in reached for argument in node.all_input_nodes):
            reached.add(node.name)
    if results & reached:
        raise CompileError(
            Diagnostic(
                f"{name} changes its buffer '{sorted(buffers.values())[0]}' in every call and returns what depends on it",
                help="make the buffer an argument, since a compiled model keeps no state between calls",
            )
        )


def results_of_export(program: torch.export.ExportedProgram, values: Mapping[str, Any]) -> tuple[list[fx.Node], Results]:
    """Return the nodes of the results, each once, and the structure in which the module returns them.

    An exported program also lists what the call changed in place (inputs, buffers), which is not a result.

    Raises:
        CompileError: if nothing is returned, or something that is neither a tensor nor a constant.
    """
    outputs, leaves = list[fx.Node](), list[Results]()
    for spec in program.graph_signature.output_specs:
        if spec.kind.name != "USER_OUTPUT":
            continue
        kind = type(spec.arg).__name__
        value = values.get(spec.arg.name) if kind == "TensorArgument" else getattr(spec.arg, "value", None)
        if isinstance(value, fx.Node):
            if value not in outputs:
                outputs.append(value)
            leaves.append(Results("tensor", outputs.index(value)))
        elif kind == "ConstantArgument" and (value is None or isinstance(value, bool | int | float | str)):
            leaves.append(Results("constant", value=value))
        else:
            raise CompileError(Diagnostic("a result is a size that depends on the batch", help="return tensors and constants"))
    if not outputs:
        raise CompileError(Diagnostic("the model returns no tensor", help="return tensors; put several in a tuple or dictionary"))
    spec = program.call_spec.out_spec
    return outputs, _structure(pytree.tree_unflatten(leaves, spec))


def _structure(tree: Any) -> Results:
    """Return the structure of a tree whose leaves are `Results`."""
    if isinstance(tree, Results):
        return tree
    if isinstance(tree, Mapping):
        if wrong := [key for key in tree if not isinstance(key, str)]:
            raise CompileError(Diagnostic(f"a result has the key {wrong[0]!r}", help="use strings as names of results"))
        keys, items = tuple(tree), tuple(_structure(item) for item in tree.values())
        kind = type(tree)
        if kind.__mro__[1:] and any(base.__name__ in ("BaseOutput", "ModelOutput") for base in kind.__mro__[1:]):
            library = kind.__module__ if kind.__module__.split(".")[0] in ("diffusers", "transformers") else ""
            return Results("output", name=f"{library}:{kind.__name__}", keys=keys, items=items)
        return Results("dict", name="OrderedDict" if kind is OrderedDict else "", keys=keys, items=items)
    if isinstance(tree, Sequence):
        items = tuple(_structure(item) for item in tree)
        if hasattr(tree, "_fields"):
            return Results("namedtuple", name=type(tree).__name__, keys=tuple(tree._fields), items=items)
        return Results("list" if isinstance(tree, list) else "tuple", items=items)
    raise CompileError(
        Diagnostic(
            f"the model returns a {type(tree).__name__}, which is not supported",
            help="return tensors in tuples, lists or dictionaries",
        )
    )
