"""From `torch.export` to a graph of aten calls whose sizes are integers or multiples of the batch."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder, Origin, has_batch_size
from hecompile.frontend.several import emit_several, is_split
from hecompile.frontend.sized import emit_sized
from hecompile.frontend.sources import Source
from hecompile.ir.graph import Dim, InputSpec, ModelGraph
from hecompile.ir.shapes import BATCHES, dim_between, dtype_name, info_between, map_argument

__all__ = ["import_module"]

_PLACEMENT = ("device", "layout", "pin_memory", "memory_format", "generator")  # of memory, not of values
Sizes = dict[str, tuple[object, object]]


def import_module(source: Source) -> ModelGraph:
    """Trace a module. Raises `CompileError` if torch cannot, or a size depends on the batch in no simple way."""
    if source.module is None:
        raise CompileError(f"{source.name} is not a module")
    program = _export(source)
    sizes = _sizes(program)
    builder, values, skipped = Builder(fold=False), dict[fx.Node, Any](), list[Diagnostic]()
    tensors = {**program.state_dict, **program.constants}
    signature = {item.arg.name: item for item in program.graph_signature.input_specs}
    keywords = iter(_keywords(source))
    outputs: list[fx.Node] = []
    for node in program.graph.nodes:
        builder.origin = _origin(node)
        if node.op == "placeholder":
            spec = signature[node.name]
            if not isinstance(node.meta["val"], torch.Tensor):
                values[node] = node.meta["val"]  # a constant argument, such as return_dict
            elif spec.kind.name == "USER_INPUT":
                values[node] = builder.input(_input(next(keywords), sizes[node.name], source))
            else:
                values[node] = builder.constant(tensors[str(spec.target)], str(spec.target))
        elif node.op == "output":
            outputs = [values[item] for item in _tensors(node.args[0])]
        elif node.op == "get_attr":
            values[node] = builder.constant(getattr(program.graph_module, str(node.target)), str(node.target))
        else:
            values[node] = _call(builder, node, values, sizes, skipped)
    if skipped:
        raise CompileError(skipped)
    return builder.finish(outputs, source.name, dict(source.config))


def _keywords(source: Source) -> list[tuple[str, ...]]:
    return list(source.inputs)


def _tensors(results: Any) -> list[fx.Node]:
    return [item for item in results if isinstance(item, fx.Node)]


def _nested(inputs: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Keyword arguments, dictionaries put together again."""
    nested: dict[str, Any] = {}
    for keyword, value in inputs.items():
        place = nested
        for name in keyword[:-1]:
            place = place.setdefault(name, {})
        place[keyword[-1]] = value
    return nested


def _export(source: Source) -> torch.export.ExportedProgram:
    dynamic = {
        keyword: {0: torch.export.Dim.DYNAMIC} if example.dim() and example.shape[0] == BATCHES[0] else None
        for keyword, example in source.inputs.items()
    }
    arguments = _nested(source.inputs)
    if source.config.get("_class_name") in ("UNet2DModel", "UNet2DConditionModel"):
        arguments["return_dict"] = False
    if source.config.get("_class_name") == "UNet2DConditionModel":
        arguments.setdefault("encoder_hidden_states", None)  # required even where a picture stands for the prompt
    shapes = dict.fromkeys(arguments) | _nested(dynamic)
    try:
        with torch.no_grad():
            program = torch.export.export(source.module, (), arguments, dynamic_shapes=shapes, strict=False)  # type: ignore[arg-type]
            simple: torch.export.ExportedProgram = program.run_decompositions(_decompositions())
            return simple
    except Exception as error:  # torch.export raises many kinds
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise CompileError(
            Diagnostic(
                f"torch cannot trace {source.name}: {text[0]}",
                source=_raised_at(error),
                help="control flow must not depend on values, and the batch must be the first dimension",
            )
        ) from error


def _raised_at(error: BaseException) -> str:
    """The innermost line of the model that an error passed; empty if none."""
    found: BaseException | None = error
    while found is not None:
        frames = traceback.extract_tb(found.__traceback__)
        own = [frame for frame in frames if "/torch/" not in frame.filename and frame.filename != __file__]
        if own:
            return f"{PurePath(own[-1].filename).name}:{own[-1].lineno}"
        found = found.__cause__ or found.__context__
    return ""


def _decompositions() -> Any:
    """Torch's own spellings in simpler calls, for the calls that canonicalize has no rule for."""
    from hecompile.frontend.rules import RULES
    from hecompile.ir.ops import OPS

    table: Any = torch.export.default_decompositions()
    for operator in list(table):
        if str(operator) in RULES or str(operator) in OPS or is_split(str(operator)):
            table.pop(operator)
    return table


def _input(keyword: tuple[str, ...], sizes: tuple[Any, Any], source: Source) -> InputSpec:
    first, second = sizes
    shape = tuple(dim_between(*pair) for pair in zip(first.shape, second.shape, strict=True))
    name = keyword[-1]
    return InputSpec(name, keyword, shape, dtype_name(first.dtype), public=name in source.public)


def _origin(node: fx.Node) -> Origin:
    """Module path and the innermost source line."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    source = f"{PurePath(own[-1][0]).name}:{own[-1][1]}" if own else ""
    return Origin(path.removeprefix("L['self'].").removeprefix("L__self___"), source)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what every node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.results: dict[str, object] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.results[n.name] = result
        return result


def _sizes(program: torch.export.ExportedProgram) -> Sizes:
    """What every node gives at the two batch sizes, on tensors without data."""
    found = []
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
            recorder.run(*inputs)
        found.append(recorder.results)
    return {name: (result, found[1][name]) for name, result in found[0].items()}


def _at(size: torch.SymInt, batch: int) -> int:
    """A symbolic size at a batch: one symbol, whatever its name."""
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def _call(builder: Builder, node: fx.Node, values: dict[fx.Node, Any], sizes: Sizes, skipped: list[Diagnostic]) -> Any:
    """A call with its sizes resolved; numbers that are computed from sizes are not nodes of the result."""
    first, second = sizes[node.name]
    if isinstance(first, int | float | bool) and not isinstance(first, torch.Tensor):
        return _number(first, second)
    if str(node.target).startswith(("aten._assert", "aten.sym_")):
        return None
    if "getitem" in str(node.target):
        source, index = node.args
        result = values[source][index]  # type: ignore[index]
        if result is None:
            skipped.append(Diagnostic(f"result {index} of {source} is not supported", source=builder.origin.source))
            return _stand_in(builder, node.name, first, second)
        return result
    if not isinstance(node.target, torch._ops.OpOverload) or first is None:
        return None

    def resolve(leaf: object) -> object:
        return values[leaf] if isinstance(leaf, fx.Node) else leaf

    bound, keywords = _bound(node)
    args = [map_argument(value, resolve) for value in bound]
    try:
        if isinstance(first, list | tuple):
            return emit_several(builder, str(node.target), [*args, *keywords.values()], first)
        if has_batch_size(args):
            return emit_sized(builder, str(node.target), args, keywords)
        return builder.emit(str(node.target), *args, **keywords)
    except CompileError as error:
        skipped.extend(error.diagnostics)
        return _stand_in(builder, node.name, first, second)


def _stand_in(builder: Builder, name: str, first: Any, second: Any) -> Any:
    """A value of the right shape in place of one that failed, so that the rest is checked too."""
    if isinstance(first, list | tuple):
        return [_stand_in(builder, f"{name}_{place}", *pair) for place, pair in enumerate(zip(first, second, strict=True))]
    try:
        record = info_between(first, second)
    except CompileError:  # what depends on it cannot be checked; this finding is already listed
        return builder.constant(torch.zeros(()))
    return builder.input(InputSpec(f"{name}_", (name,), record.shape, record.dtype))


def _number(first: Any, second: Any) -> Dim | float | bool:
    if isinstance(first, bool | float) or first == second:
        return first  # type: ignore[no-any-return]
    return dim_between(first, second)


def _bound(node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
    """All arguments by position with defaults filled in, and keyword-only ones that say something about values."""
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
