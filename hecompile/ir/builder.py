"""Builds a graph node by node. Each node is evaluated at two batch sizes on tensors without data, which gives its shape and dtype.

A builder may also fold constants and share equal nodes, as `canonicalize` wants. Names of nodes are made from the module path, so
that they stay the same from run to run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir import own_ops as own_ops  # makes our operators known to torch
from hecompile.ir.graph import Batch, InputSpec, ModelGraph, concrete_shape, info, set_info
from hecompile.ir.ops import OPS
from hecompile.ir.shapes import BATCHES, at_batch, dtype_named, info_between, map_argument

if TYPE_CHECKING:
    from hecompile.ir.graph import Dim

__all__ = ["Builder", "Origin", "has_batch_size", "operator"]

MOST_NAME = 120  # characters
Pair = tuple[Any, Any]  # what a node gives at the two batch sizes


@dataclass(frozen=True)
class Origin:
    """Where a node came from: the dotted path of its module and the line of the user's source."""

    path: str = ""
    source: str = ""


def operator(name: str) -> Callable[..., Any]:
    """Return the operator of torch with a name such as `aten.conv2d.default`."""
    operator: Any = torch.ops
    for part in name.split("."):
        operator = getattr(operator, part)
    result: Callable[..., Any] = operator
    return result


class Builder:
    """A graph that is being built. With `fold`, calls of constants alone become constants, and equal calls become one node."""

    def __init__(self, fold: bool = True) -> None:
        self.graph, self.root, self.origin = fx.Graph(), torch.nn.Module(), Origin()
        self.inputs: list[InputSpec] = []
        self._fold = fold
        self._fakes: dict[fx.Node, Pair] = {}
        self._constants: dict[fx.Node, torch.Tensor] = {}
        self._seen: dict[object, fx.Node] = {}
        self._kept: list[torch.Tensor] = []
        self._taken = {"self"}  # the graph module itself, in the code that fx writes
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def input(self, spec: InputSpec) -> fx.Node:
        """Add an input and return its placeholder. Both get the name of `spec`, spelled as `_name` spells it."""
        node = self._node("placeholder", spec.name, self._name(spec.name))
        node.target = node.name  # of the parameter in the code that fx writes
        spec = replace(spec, name=node.name)
        shapes = [concrete_shape(spec.shape, batch) for batch in BATCHES]
        with self._mode:
            first, second = (torch.empty(shape, dtype=dtype_named(spec.dtype)) for shape in shapes)
        self._fakes[node] = (first, second)
        set_info(node, info_between(first, second))
        self.inputs.append(spec)
        return node

    def constant(self, tensor: torch.Tensor, hint: str = "constant") -> fx.Node:
        """Return the node of a constant tensor. The same tensor, given again, has the same node."""
        key = ("constant", tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if key in self._seen:
            return self._seen[key]
        self._kept.append(tensor)  # so that no other tensor gets its address
        name = self._name(hint)
        self.root.register_buffer(name, tensor.detach())
        node = self._node("get_attr", name, name)
        with self._mode:
            # weights on the meta device stand for weights in memory: shapes are all that is asked of them
            absent = torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else None
        fake = self._mode.from_tensor(tensor.detach()) if absent is None else absent
        self._fakes[node] = (fake, fake)
        self._constants[node] = tensor.detach()
        set_info(node, replace(info_between(fake, fake), path=self.origin.path, source=self.origin.source))
        self._seen[key] = node
        return node

    def value(self, node: fx.Node) -> torch.Tensor | None:
        """Return the tensor of a constant node; None for any other node."""
        return self._constants.get(node)

    def shape(self, node: fx.Node) -> tuple[Dim, ...]:
        return info(node).shape

    def fake(self, node: fx.Node) -> Pair:
        """Return the node's results at the two batch sizes (`hecompile.ir.shapes.BATCHES`), tensors without data."""
        return self._fakes[node]

    def emit(self, name: str, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a call of an operator and return its node. A `Batch` among the arguments is a size that grows with the batch.

        Raises:
            CompileError: if torch refuses the call, or a size of the result does not grow with the batch as it must.
        """
        if self._fold and (constant := self.folded(name, args, kwargs)) is not None:
            return constant
        key = (name, _hashable(args), _hashable(sorted(kwargs.items())))
        if self._fold and key in self._seen:
            return self._seen[key]
        first, second = (self._evaluate(name, args, kwargs, index) for index in (0, 1))
        try:
            record = info_between(first, second)
        except CompileError as error:
            help_text = "a size is a number or a multiple of the batch, which stands in the first dimension"
            finding = Diagnostic(f"{name}: {error.diagnostics[0].message}", source=self.origin.source, help=help_text)
            raise CompileError(finding) from error
        stored: object = map_argument(args, lambda leaf: -1 if isinstance(leaf, Batch) else leaf)
        if name == "aten.reshape.default":
            stored = (args[0], self._sizes(record.shape))
        node = self._node("call_function", operator(name), self._name(self._hint(name)), stored, kwargs)
        self._fakes[node] = (first, second)
        set_info(node, replace(record, path=self.origin.path, source=self.origin.source))
        self._seen[key] = node
        return node

    def _sizes(self, shape: tuple[Dim, ...]) -> list[int]:
        """Return the sizes argument of a reshape: -1 for the dimension that grows with the batch. Raises `CompileError` if two
        do."""
        if sum(isinstance(dim, Batch) for dim in shape) > 1:
            text = "x".join(map(str, shape))
            raise CompileError(
                Diagnostic(f"a reshape to {text}, two sizes of which grow with the batch", source=self.origin.source)
            )
        return [-1 if isinstance(dim, Batch) else dim for dim in shape]

    def folded(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> fx.Node | None:
        """Return the node of the constant that a call gives. None if an argument is no constant, or the operator draws random
        numbers."""
        nodes = [leaf for leaf in _leaves(args) if isinstance(leaf, fx.Node)]
        target = operator(name)
        if not nodes or torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            return None
        if any(node not in self._constants or self._constants[node].is_meta for node in nodes):
            return None
        if has_batch_size(args):
            return None
        values: Any = map_argument(args, lambda leaf: self._constants.get(leaf, leaf))  # type: ignore[call-overload]
        with torch.no_grad():
            return self.constant(target(*values, **kwargs).contiguous(), self._hint(name))

    def _evaluate(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], index: int) -> Any:
        def leaf(argument: object) -> object:
            return self._fakes[argument][index] if isinstance(argument, fx.Node) else argument

        try:
            with _quiet(), self._mode, torch.no_grad():
                return operator(name)(*at_batch(map_argument(args, leaf), BATCHES[index]), **kwargs)  # type: ignore[misc]
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise CompileError(Diagnostic(f"{name}: {error}", source=self.origin.source)) from error

    def _hint(self, name: str) -> str:
        short = OPS[name].short if name in OPS else name.split(".")[1]
        return f"{self.origin.path}_{short}" if self.origin.path else short

    def _node(self, kind: str, target: Any, name: str, args: Any = (), kwargs: dict[str, Any] | None = None) -> fx.Node:
        """Add a node. Its name is the one that fx gives it, which may differ from `name` where that is a word of Python."""
        node = self.graph.create_node(kind, target, args, kwargs or {}, name)
        self._taken.add(node.name)
        return node

    def _name(self, hint: str) -> str:
        """Return a name that no node or constant has, of small ASCII letters, digits and underscores, from what the model calls
        the thing: `mid_block.resnets.0.conv1_conv2d` becomes `mid_block_resnets_0_conv1_conv2d`. Long names keep their end."""
        base = re.sub(r"[^a-z0-9]+", "_", hint.lower())[-MOST_NAME:].strip("_") or "value"
        base = re.sub(r"_0+(?=[0-9]+$)", "_", base)  # fx reads a number there, and drops its zeros
        if base[0].isdigit():
            base = f"n{base}"
        name, number = base, 1
        while name in self._taken or hasattr(self.root, name):
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def finish(self, outputs: Sequence[fx.Node], name: str, config: dict[str, object]) -> ModelGraph:
        """Return the graph without what nothing reads."""
        self.graph.output(tuple(outputs))
        for node in reversed(list(self.graph.nodes)):
            if node.op not in ("output", "placeholder") and not node.users:
                self.graph.erase_node(node)
        used = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        for unused in set(dict(self.root.named_buffers())) - used:
            delattr(self.root, unused)
        module = fx.GraphModule(self.root, self.graph)
        return ModelGraph(module, tuple(self.inputs), tuple(node.name for node in outputs), name, config)


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch logs a traceback when a call on data-free tensors fails; the error that we raise says it better."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addFilter(_is_critical)  # setting its level would clear what every logger remembers, at every call
    try:
        yield
    finally:
        logger.removeFilter(_is_critical)


def _is_critical(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.CRITICAL


def _leaves(argument: object) -> list[object]:
    leaves: list[object] = []
    map_argument(argument, leaves.append)
    return leaves


def has_batch_size(argument: object) -> bool:
    """Return whether an argument, or one in a list of it, is a size that grows with the batch."""
    return any(isinstance(leaf, Batch) for leaf in _leaves(argument))


def _hashable(argument: object) -> object:
    if isinstance(argument, list | tuple):
        return tuple(_hashable(item) for item in argument)
    return (type(argument).__name__, argument)
