"""Puts a compiled model's outputs into the structure that the original module returned."""

from __future__ import annotations

import importlib
from collections import OrderedDict, namedtuple
from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Any

from hecompile.errors import ProtocolError
from hecompile.ir.signature import Results

if TYPE_CHECKING:
    import torch

__all__ = ["check_count", "check_structure", "rebuilt"]


def rebuilt(results: Results, outputs: Sequence[torch.Tensor], as_returned: bool) -> Any:
    """Return the outputs as the module returned them; with `as_returned` false as a tuple, as diffusers does for
    `return_dict=False`."""
    if not as_returned and results.kind in ("output", "dict"):
        return tuple(_built(item, outputs) for item in results.items)
    built = _built(results, outputs)
    return built if as_returned or isinstance(built, tuple) else (built,)


def _built(results: Results, outputs: Sequence[torch.Tensor]) -> Any:
    """Build one part of the structure, and the parts within it."""
    if results.kind == "tensor":
        return outputs[results.place]
    if results.kind == "constant":
        return results.value
    items = [_built(item, outputs) for item in results.items]
    if results.kind == "list":
        return items
    if results.kind == "dict":
        kind = OrderedDict if results.name else dict
        return kind(zip(results.keys, items, strict=True))
    if results.kind == "namedtuple":
        return namedtuple(results.name, results.keys)(*items)  # its names are those of the manifest
    if results.kind == "output":
        return _output_class(results)(**dict(zip(results.keys, items, strict=True)))
    return tuple(items)


def _output_class(results: Results) -> Any:
    """Return the class of a ModelOutput: that of diffusers or transformers, or a new one of the same name and fields for a user's
    own."""
    module, _, name = results.name.partition(":")
    if not module:
        from diffusers.utils import BaseOutput

        return make_dataclass(name, [(key, Any, None) for key in results.keys], bases=(BaseOutput,))
    try:
        output_class = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ProtocolError(f"results: the class {results.name} is not installed here") from error
    bases = {base.__name__ for base in getattr(output_class, "__mro__", ())}
    names = getattr(output_class, "__dataclass_fields__", ())
    if not bases & {"BaseOutput", "ModelOutput"} or not set(results.keys) <= set(names):
        raise ProtocolError(f"results: {results.name} is no output class with {', '.join(results.keys)}")
    return output_class


def check_count(results: Results, count: int) -> None:
    """Raise `ProtocolError` for a structure that needs more outputs than the plan has."""
    if any(place >= count for place in results.places):
        raise ProtocolError(f"results: the structure needs more than the plan's {count} outputs")


def check_structure(results: Results, count: int) -> None:
    """Raise `ProtocolError` for a structure that cannot be built. It imports torch, so only callers that return tensors use it."""
    import torch

    try:
        rebuilt(results, [torch.zeros(1)] * count, True)
    except ProtocolError:
        raise
    except Exception as error:  # classes of other libraries may raise anything for wrong fields
        raise ProtocolError(f"results: the structure cannot be built: {str(error)[:200]}") from error
