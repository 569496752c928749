"""One example call of a module: its tensors by keyword, its constants, and the arguments that are passed to `forward`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.shapes import BATCHES
from hecompile.ir.signature import Constant, Keyword, text_of

__all__ = ["ExampleCall", "example_call", "main_dtype"]

_CLOCK: Keyword = ("timestep",)  # a number for this argument stands for a tensor, since it changes from step to step
_OWN = "return_dict"


@dataclass(frozen=True, eq=False)
class ExampleCall:
    """A call `module(*args, **kwargs)` with a batch of two.

    `inputs` are its tensors by keyword, in the order of the signature. `constants` are its other arguments, and the defaults of
    those it leaves out. `arguments` are the names that may be passed by position. Floating tensors in `args` and `kwargs` have the
    module's own type. `open_ended` is whether `forward` accepts `*rest` or `**named`.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: Mapping[Keyword, torch.Tensor]
    constants: tuple[Constant, ...]
    arguments: tuple[str, ...]
    open_ended: bool = False


def example_call(module: torch.nn.Module, examples: object) -> ExampleCall:
    """Return the call that examples describe: keyword arguments in a mapping, positional ones in a sequence, or one tensor.

    Lists, tuples and mappings of tensors may be nested. None, booleans, numbers and strings become constants of the compiled model,
    except a number for `timestep`, which stands for a tensor.

    Raises:
        CompileError: for arguments that the module does not accept or lacks, for values of other kinds, and if no tensor has a
            batch of two as its first dimension.
    """
    signature = inspect.signature(module.forward)
    named = _named(module, signature, examples)
    inputs, constants = dict[Keyword, torch.Tensor](), list[Constant]()
    dtype = main_dtype(module)

    def leaf(keyword: Keyword, value: object) -> object:
        if isinstance(value, np.ndarray | np.generic):
            value = torch.as_tensor(value)
        if keyword == _CLOCK and isinstance(value, int | float) and not isinstance(value, bool):
            value = torch.tensor(float(value))
        if isinstance(value, torch.Tensor):
            inputs[keyword] = value.detach()
            return value.detach().to(dtype) if dtype is not None and value.is_floating_point() else value.detach()
        if value is None or isinstance(value, bool | int | float | str):
            if isinstance(value, float) and not math.isfinite(value):
                raise CompileError(f"example input '{text_of(keyword)}' is {value}, which cannot be a constant")
            constants.append(Constant(keyword, value, _is_default(signature, keyword, value)))
            return value
        raise CompileError(
            Diagnostic(
                f"example input '{text_of(keyword)}' is a {type(value).__name__}, not a tensor",
                help="give tensors, lists, tuples or dictionaries of them, or None, numbers, booleans and texts as constants",
            )
        )

    skipped = {_OWN} if _of_library(module) else set()  # `return_dict`, which the caller chooses at every call
    values = {name: _walk((name,), value, leaf) for name, value in named.items() if name not in skipped}
    if not any(tensor.dim() and tensor.shape[0] == BATCHES[0] for tensor in inputs.values()):
        raise CompileError(
            Diagnostic(
                "no example input has a batch of two as its first dimension",
                help="the batch is told from other dimensions by its size of two",
            )
        )
    for name, parameter in signature.parameters.items():
        default = parameter.default
        plain = default is None or (isinstance(default, bool | int | float | str) and default not in (math.inf, -math.inf))
        if (
            name not in named and name not in skipped and plain and default == default
        ):  # NaN, which differs from itself, cannot be a constant
            constants.append(Constant((name,), default, True))
    args, kwargs = _handed(signature, values)
    open_ended = any(
        parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in signature.parameters.values()
    )
    return ExampleCall(args, kwargs, inputs, tuple(constants), _positions(signature), open_ended)


def _of_library(module: torch.nn.Module) -> bool:
    """Return whether a module comes from diffusers or transformers, which return a ModelOutput or, on request, a tuple."""
    return any(base.__module__.split(".")[0] in ("diffusers", "transformers") for base in type(module).__mro__)


def main_dtype(module: torch.nn.Module) -> torch.dtype | None:
    """Return the floating-point type of most of a module's weights; None for a module without any."""
    counts: dict[torch.dtype, int] = {}
    for parameter in module.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    return max(counts, key=lambda dtype: counts[dtype]) if counts else None


def _walk(keyword: Keyword, value: object, leaf: Callable[[Keyword, object], object]) -> Any:
    """Return the structure of `value` with `leaf(keyword, item)` in place of every item."""
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise CompileError(f"example input '{text_of(keyword)}' has the key {wrong[0]!r}: keys must be text")
        return {key: _walk((*keyword, key), item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_walk((*keyword, place), item, leaf) for place, item in enumerate(value)]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return items if isinstance(value, list) else tuple(items)
    return leaf(keyword, value)


def _is_default(signature: inspect.Signature, keyword: Keyword, value: object) -> bool:
    """Return whether a call may leave this constant out, since it is the argument's default."""
    parameter = signature.parameters.get(str(keyword[0]))
    if len(keyword) > 1 or parameter is None or parameter.default is parameter.empty:
        return value is None
    return type(parameter.default) is type(value) and bool(parameter.default == value)


def _named(module: torch.nn.Module, signature: inspect.Signature, examples: object) -> dict[str, Any]:
    """Return the examples by the names of their arguments, in the order of the signature."""
    kind, names = type(module).__name__, _positions(signature)
    parameters = signature.parameters
    rest = next((name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_POSITIONAL), None)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if isinstance(examples, Mapping):
        given = {str(name): value for name, value in examples.items()}
    else:
        values = list(examples) if isinstance(examples, Sequence) and not isinstance(examples, str) else [examples]
        places = [name for name in names if not name.startswith("*")]
        if len(values) > len(places) and rest is None:
            raise CompileError(f"{len(values)} example inputs were given, but {kind} accepts {len(places)}: {', '.join(places)}")
        given = dict(zip(places, values, strict=False))
        if rest is not None and len(values) > len(places):
            given[rest] = tuple(values[len(places) :])
    known = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if (unknown := [name for name in given if name not in known]) and not open_ended:
        raise CompileError(Diagnostic(f"{kind} accepts no argument '{unknown[0]}'", help=f"its arguments are {', '.join(known)}"))
    if "encoder_hidden_states" in parameters and _of_library(module):
        given.setdefault("encoder_hidden_states", None)  # diffusers requires it even where pictures take the place of the prompt
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in given
    ]
    if missing:
        raise CompileError(
            Diagnostic(
                f"{kind} needs example inputs for {', '.join(missing)}",
                help="give tensors with a batch of two as their first dimension",
            )
        )
    return {name: given[name] for name in (*known, *(name for name in given if name not in known)) if name in given}


def _positions(signature: inspect.Signature) -> tuple[str, ...]:
    """Return the names of arguments by position; `*rest` stands for all that follow."""
    names = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            names.append(f"*{name}")
    return tuple(names)


def _handed(signature: inspect.Signature, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the values as positional and keyword arguments of `forward`; by position only where that is required."""
    parameters = signature.parameters
    rest = next(
        (name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_POSITIONAL and name in values), None
    )
    args, kwargs = list[Any](), dict(values)
    for name, parameter in parameters.items():
        kind = parameter.kind
        if kind is parameter.POSITIONAL_ONLY or (rest is not None and kind is parameter.POSITIONAL_OR_KEYWORD):
            args.append(kwargs.pop(name, parameter.default))
    return (*args, *(kwargs.pop(rest) if rest is not None else ())), kwargs
