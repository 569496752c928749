"""Turns a program of `torch.export` into a graph of aten calls whose sizes are integers or multiples of the batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.arguments import main_dtype
from hecompile.frontend.canonical.several import emit_several
from hecompile.frontend.canonical.sized import emit_sized
from hecompile.frontend.export.exported_call import keywords_of, name_for, refuse_state, results_of_export
from hecompile.frontend.export.masks import masks_to_places
from hecompile.frontend.export.tracing import exported_program
from hecompile.frontend.sources import Source
from hecompile.ir.builder import Builder, Origin, has_batch_size
from hecompile.ir.graph import Dim, InputSpec, ModelGraph
from hecompile.ir.shapes import BATCHES, dim_between, dtype_name, info_between, map_argument
from hecompile.ir.signature import Keyword, Signature, declared

__all__ = ["import_module"]

_PLACEMENT = (
    "device",
    "layout",
    "pin_memory",
    "memory_format",
    "generator",
    "output_size",
)  # arguments that concern memory, not values
# whether a view is possible depends on strides, which do not concern values
_RESHAPES = dict.fromkeys(("aten.view.default", "aten._unsafe_view.default", "aten.view_copy.default"), "aten.reshape.default")
Sizes = dict[str, tuple[object, object]]


def import_module(source: Source) -> ModelGraph:
    """Trace a module. Its weights and values become float32, whatever floating-point type of at most 32 bits they have.

    Raises:
        CompileError: if torch cannot trace it, a size is neither an integer nor a multiple of the batch, or a result is neither a
            tensor nor a constant.
    """
    if source.module is None or source.call is None:
        raise CompileError(f"{source.name} is not a module")
    program = exported_program(source, source.call)
    refuse_state(program, source.name)
    masks_to_places(program)
    sizes = _sizes(program)
    narrow = _narrowed(source.module)
    builder, values, skipped = Builder(fold=False), dict[fx.Node, Any](), list[Diagnostic]()
    tensors = {**program.state_dict, **program.constants}
    signature = {item.arg.name: item for item in program.graph_signature.input_specs}
    keywords = iter(keywords_of(source.call))

    def constant(target: str, tensor: torch.Tensor) -> fx.Node:
        return builder.constant(tensor.to(narrow.get(tensor.dtype, tensor.dtype)), target)

    for node in program.graph.nodes:
        builder.origin = _origin(node)
        if node.op == "placeholder":
            spec = signature[node.name]
            user = spec.kind.name == "USER_INPUT"
            keyword = next(keywords) if user else ()
            if not isinstance(node.meta["val"], torch.Tensor) or spec.kind.name == "TOKEN":
                values[node] = node.meta["val"]  # a constant argument, or a token that orders checks
            elif user:
                values[node] = builder.input(_input(keyword, sizes[node.name], source, narrow))
            else:
                values[node] = constant(str(spec.target), tensors[str(spec.target)])
        elif node.op == "get_attr":
            values[node] = constant(str(node.target), getattr(program.graph_module, str(node.target)))
        elif node.op != "output":
            values[node] = _call(builder, node, values, sizes, skipped, narrow)
    if skipped:
        raise CompileError(skipped)
    by_name = {node.name: values[node] for node in program.graph.nodes if node.op != "output"}
    outputs, results = results_of_export(program, by_name)
    graph = builder.finish(outputs, source.name, dict(source.config))
    return replace(graph, signature=Signature(source.call.arguments, source.call.constants, results))


def _narrowed(module: torch.nn.Module) -> dict[torch.dtype, torch.dtype]:
    """Return the types that become float32: half precision always, doubles if most weights are doubles."""
    narrow = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
    return narrow | ({torch.float64: torch.float32} if main_dtype(module) is torch.float64 else {})


def _input(keyword: Keyword, sizes: tuple[Any, Any], source: Source, narrow: Mapping[torch.dtype, torch.dtype]) -> InputSpec:
    first, second = sizes
    shape = tuple(dim_between(*pair) for pair in zip(first.shape, second.shape, strict=True))
    dtype = dtype_name(narrow.get(first.dtype, first.dtype))
    return InputSpec(name_for(keyword), keyword, shape, dtype, declared(keyword, source.public))


def _origin(node: fx.Node) -> Origin:
    """Return the module path and the innermost source line of a call."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    source = f"{PurePath(own[-1][0]).name}:{own[-1][1]}" if own else ""
    path = path.removeprefix("L['self'].").removeprefix("L__self___").removeprefix("called.").removeprefix("called")
    return Origin(path, source)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the result of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.results: dict[str, object] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except DynamicOutputShapeException as error:
            help_text = "keep the size and hide entries: torch.where(mask, x, 0), or a product with the mask"
            what = f"{n.target} makes a tensor whose size depends on values"
            raise CompileError(Diagnostic(what, source=_origin(n).source, help=help_text)) from error
        self.results[n.name] = result
        return result


def _sizes(program: torch.export.ExportedProgram) -> Sizes:
    """Return the results of every node at the two batch sizes, as tensors without data."""
    results = []
    for batch in BATCHES:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        inputs: list[Any] = []
        for node in program.graph.nodes:
            if node.op != "placeholder":
                continue
            value = node.meta["val"]
            if not isinstance(value, torch.Tensor):
                inputs.append(value)
                continue
            shape = [size if isinstance(size, int) else _at(size, batch) for size in value.shape]
            with mode:
                inputs.append(torch.empty(shape, dtype=value.dtype, device=value.device))
        recorder = _Recorder(program.graph_module)
        with mode, torch.no_grad():
            try:
                recorder.run(*inputs)
            except CompileError as error:  # fx appends text of its own to the message
                raise CompileError(error.diagnostics) from error
        results.append(recorder.results)
    return {name: (result, results[1][name]) for name, result in results[0].items()}


def _at(size: torch.SymInt, batch: int) -> int:
    """Evaluate a symbolic size at a batch size. It has one symbol, whatever its name."""
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def _call(
    builder: Builder, node: fx.Node, values: dict[fx.Node, Any], sizes: Sizes, skipped: list[Diagnostic],
    narrow: Mapping[torch.dtype, torch.dtype],
) -> Any:  # fmt: skip
    """Emit a call with its sizes resolved. Numbers that are computed from sizes do not become nodes of the result."""
    first, second = sizes[node.name]
    if isinstance(first, int | float | bool) and not isinstance(first, torch.Tensor):
        return _number(first, second)
    if str(node.target).startswith(("aten._assert", "aten.sym_")):
        return None
    if "getitem" in str(node.target):
        source, index = node.args
        if values[source] is None:  # type: ignore[index]
            return None  # the result of a check that torch inserts
        result = values[source][index]  # type: ignore[index]
        if result is None:
            help_text = "read its first result only: indices of values are not computed"
            finding = Diagnostic(f"result {index} of {source} is not supported", source=builder.origin.source, help=help_text)
            skipped.append(finding)
            return _stand_in(builder, node.name, first, second)
        return result
    if not isinstance(node.target, torch._ops.OpOverload) or first is None:
        return None

    def resolve(leaf: object) -> object:
        if isinstance(leaf, torch.dtype):
            return narrow.get(leaf, leaf)
        value = values[leaf] if isinstance(leaf, fx.Node) else leaf
        if isinstance(value, CompileError):
            raise value
        return value

    bound, given = _bound(node)
    target = _RESHAPES.get(str(node.target), str(node.target))
    try:
        args = [map_argument(value, resolve) for value in bound]
        keywords = {name: map_argument(value, resolve) for name, value in given.items()}
        if isinstance(first, list | tuple):
            return emit_several(builder, target, args, keywords, first, second)  # type: ignore[arg-type]
        if has_batch_size([args, list(keywords.values())]):
            return emit_sized(builder, target, args, keywords)
        return builder.emit(target, *args, **keywords)
    except CompileError as error:
        skipped.extend(error.diagnostics)
        return _stand_in(builder, node.name, first, second)


def _stand_in(builder: Builder, name: str, first: Any, second: Any) -> Any:
    """Return a value of the right shape in place of a call that failed, so that the calls after it are checked too."""
    if isinstance(first, list | tuple):
        return [_stand_in(builder, f"{name}_{place}", *pair) for place, pair in enumerate(zip(first, second, strict=True))]
    try:
        record = info_between(first, second)
    except CompileError:  # calls that depend on it cannot be checked; the error is already listed
        return builder.constant(torch.zeros(()))
    return builder.input(InputSpec(f"{name}_", (name,), record.shape, record.dtype))


def _number(first: Any, second: Any) -> Dim | float | bool | CompileError:
    """Return a size or a number. Anything else gives an error to be raised by a call that reads it, since most such values are not
    read."""
    if isinstance(first, bool | float) or first == second:
        return first  # type: ignore[no-any-return]
    try:
        return dim_between(first, second)
    except CompileError as error:
        return error


def _bound(node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
    """Return all arguments by position with defaults filled in, and the keyword-only ones that concern values."""
    target: Any = node.target
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for place, argument in enumerate(target._schema.arguments):
        if argument.kwarg_only:
            if argument.name in node.kwargs and argument.name not in _PLACEMENT:
                kwargs[argument.name] = node.kwargs[argument.name]
        elif place < len(node.args):
            args.append(node.args[place])
        else:
            args.append(node.kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None))
    return args, kwargs
