"""Replaces constant masks of an exported program by indices, since torch does not know the size of what a mask selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from hecompile.ir.shapes import map_argument

__all__ = ["masks_to_places"]

_INDEXED = ("aten.index.Tensor", "aten.index_put.default")
_COUNTED = ("aten.nonzero.default", "aten.repeat_interleave.Tensor")  # constants whose size depends on constants


def masks_to_places(program: torch.export.ExportedProgram) -> None:
    """Replace constant masks that index a value by constant indices, and constants of a size that torch leaves open by constants
    with one.

    Masks that are computed from inputs stay.
    """
    module = program.graph_module
    known = _Known(program)
    for node in list(module.graph.nodes):
        name = str(node.target)
        if name in _COUNTED and (value := known.of(node)) is not None:
            node.replace_all_uses_with(_constant(module, node, value))
        if name not in _INDEXED:
            continue
        indices: list[Any] = []
        for index in node.args[1]:
            mask = known.of(index) if index is not None and _is_mask(index) else None
            indices += [index] if mask is None else [_constant(module, node, line) for line in mask.nonzero(as_tuple=True)]
        if indices != list(node.args[1]):
            node.update_arg(1, indices)
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_mask(index: fx.Node) -> bool:
    return getattr(index.meta.get("val"), "dtype", None) is torch.bool


def _constant(module: fx.GraphModule, before: fx.Node, value: torch.Tensor) -> fx.Node:
    """Return a node for a tensor, inserted before another node."""
    name = f"_places_{sum(1 for key, _ in module.named_buffers() if key.startswith('_places_'))}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node


class _Known:
    """Values of the nodes that are computed from constants alone, each computed once."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        tensors: Mapping[str, Any] = {**program.state_dict, **program.constants}
        inputs = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs}
        self._module = program.graph_module
        self._values: dict[fx.Node, torch.Tensor | None] = {
            node: tensors.get(inputs[node.name]) for node in program.graph.nodes if node.op == "placeholder"
        }

    def of(self, node: fx.Node) -> torch.Tensor | None:
        """Return the value of a node; None if it depends on an input, or is not a tensor."""
        if node not in self._values:
            self._values[node] = self._computed(node)
        return self._values[node]

    def _computed(self, node: fx.Node) -> torch.Tensor | None:
        if node.op == "get_attr":
            attribute = getattr(self._module, str(node.target), None)
            return attribute if isinstance(attribute, torch.Tensor) else None
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in target.tags:
            return None
        if any(self.of(argument) is None for argument in node.all_input_nodes):
            return None

        def resolve(leaf: object) -> object:
            return self._values[leaf] if isinstance(leaf, fx.Node) else leaf

        args: Any = map_argument(node.args, resolve)
        kwargs = {name: map_argument(value, resolve) for name, value in node.kwargs.items()}
        with unset_fake_temporarily(), torch.no_grad():
            value = target(*args, **kwargs)
        return value if isinstance(value, torch.Tensor) else None
