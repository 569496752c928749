"""Checks the arguments of a call against the compiled model's signature and turns them into arrays.

Every argument ends up as a tensor under its keyword, is compared with a constant of the compiled model, or is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hecompile.artifact import Input
from hecompile.errors import HecompileError
from hecompile.ir.halves import Array
from hecompile.ir.signature import PUBLIC, Constant, Keyword, Signature, declared, text_of

__all__ = ["InputError", "as_array", "batch_of", "bind", "check_places"]

RETURN_DICT = "return_dict"


class InputError(HecompileError, ValueError):
    """Raised when the arguments of a call do not fit the compiled model."""


def bind(
    signature: Signature, inputs: Sequence[Input], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[Keyword, Any], bool]:
    """Sort the arguments of a call by the model's keywords.

    Returns:
        The tensors by keyword, and whether the caller wants results as the model returns them (`return_dict`).

    Raises:
        InputError: naming every argument that is missing, was not compiled in, or differs from a constant that was.
    """
    binding = _Binding(signature, inputs)
    named = _named(signature, inputs, args, kwargs)
    own = signature.results.kind == "output" or not any(constant.keyword == (RETURN_DICT,) for constant in signature.constants)
    as_returned = bool(named.pop(RETURN_DICT, True)) if own else True
    for name, value in named.items():
        binding.take((name,), value)
    binding.finish()
    return binding.tensors, as_returned


def check_places(signature: Signature, inputs: Sequence[Input], args: Sequence[Any], clear: Sequence[Keyword]) -> None:
    """Refuse values that requests reveal to the server, such as the timestep, if they were passed by a position that could be
    wrong.

    The artifact says in which order arguments come. A malicious artifact could put a secret label where the timestep is expected,
    so a positional argument counts as the timestep only in the second place, where diffusers passes it to every UNet.

    Raises:
        InputError: naming the argument to pass by its name.

    The order of arguments is the artifact's word, and another order could put a label where the timestep is told. So by position
    only the second argument is taken for it, as diffusers calls every UNet.

    Raises:
        InputError: naming the argument to pass by its name.
    """
    order = _order(signature, inputs)[: len(args)]
    for keyword in clear:
        if f"*{keyword[0]}" in order or (keyword[0] in order and order.index(str(keyword[0])) != 1):
            raise InputError(f"pass {keyword[0]}= by its name: requests tell it to the server, and by position it could be another")


def _order(signature: Signature, inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the names of the model's arguments in the order in which they may be passed by position."""
    return signature.arguments or tuple(str(spec.keyword[0]) for spec in inputs)


def _named(signature: Signature, inputs: Sequence[Input], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments by name, whether they were passed by position or by keyword."""
    order = _order(signature, inputs)
    rest = next((name[1:] for name in order if name.startswith("*")), None)
    places = [name for name in order if not name.startswith("*")]
    if len(args) > len(places) and rest is None:
        raise InputError(f"{len(args)} positional arguments were given, the model takes {len(places)}: {', '.join(places)}")
    named: dict[str, Any] = dict(zip(places, args, strict=False))
    if rest is not None and len(args) > len(places):
        named[rest] = tuple(args[len(places) :])
    if twice := sorted(set(named) & set(kwargs)):
        raise InputError(f"the argument {twice[0]} is given twice, by position and by name")
    return named | dict(kwargs)


class _Binding:
    """Sorts arguments into tensors, constants and unknown names, and collects everything that is wrong with them."""

    def __init__(self, signature: Signature, inputs: Sequence[Input]) -> None:
        self.tensors: dict[Keyword, Any] = {}
        self._specs = {spec.keyword: spec for spec in inputs}
        self._constants = {constant.keyword: constant for constant in signature.constants}
        self._inner = {
            keyword[:length] for keyword in (*self._specs, *self._constants) for length in range(1, len(keyword))
        }  # keywords of lists and dictionaries that contain tensors or constants
        self._met: set[Keyword] = set()
        self._unknown: list[str] = []
        self._problems: list[str] = []

    def take(self, keyword: Keyword, value: Any) -> None:
        """Record one argument; of a list or dictionary, record every item under the keyword extended by its index or key."""
        if keyword in self._specs:
            if isinstance(value, list | tuple | Mapping) and any(isinstance(item, torch.Tensor) for item in _items(value).values()):
                self._problems.append(f"{text_of(keyword)} is a {type(value).__name__}, but was compiled as one tensor")
            if value is not None:
                self.tensors[keyword] = value
        elif keyword in self._inner:
            if not isinstance(value, list | tuple | Mapping):
                if value is not None:
                    self._problems.append(
                        f"{text_of(keyword)} is a {type(value).__name__}, but was compiled as a list or dictionary"
                    )
                return
            for part, item in _items(value).items():
                self.take((*keyword, part), item)
        elif keyword in self._constants:
            self._compare(self._constants[keyword], value)
        elif not _is_nothing(value):
            self._unknown.append(text_of(keyword))

    def _compare(self, constant: Constant, value: Any) -> None:
        self._met.add(constant.keyword)
        if _is_nothing(value) and constant.value is None:
            return
        if (
            isinstance(value, torch.Tensor | np.ndarray) and constant.value is not None
        ):  # comparing would reveal whether they are equal
            self._problems.append(f"{text_of(constant.keyword)} is a tensor, but was compiled as a constant: pass a plain number")
            return
        scalar = value.item() if isinstance(value, np.generic) else value
        if isinstance(scalar, bool | int | float | str) and constant.value is not None and scalar == constant.value:
            return
        what = "was not compiled in" if constant.value is None else f"differs from {constant.value!r}, which was compiled in"
        self._problems.append(f"{text_of(constant.keyword)} {what} (compile again with it among example_inputs)")

    def finish(self) -> None:
        """Raise one `InputError` that names everything that is missing, unknown or different from what was compiled in."""
        missing = [text_of(keyword) for keyword in self._specs if keyword not in self.tensors]
        missing += [
            f"{text_of(keyword)}={constant.value!r}"
            for keyword, constant in self._constants.items()
            if not constant.optional and keyword not in self._met
        ]
        if self._unknown:
            known = ", ".join(dict.fromkeys(str(keyword[0]) for keyword in (*self._specs, *self._constants)))
            self._problems.insert(
                0, f"not compiled in: {', '.join(self._unknown)} (the model takes {known}; compile again with more example_inputs)"
            )
        if missing:
            self._problems.insert(0, f"missing arguments: {', '.join(missing)}")
        if self._problems:
            raise InputError("; ".join(self._problems))


def _items(value: Sequence[Any] | Mapping[str, Any]) -> dict[Any, Any]:
    return dict(value) if isinstance(value, Mapping) else dict(enumerate(value))


def _is_nothing(value: Any) -> bool:
    """Return whether an argument is None or an empty list or dictionary, which counts as not given."""
    return value is None or (isinstance(value, list | tuple | Mapping) and not value)


def multiple_of(spec: Input) -> int | None:
    """Return how many entries of an input's first dimension belong to one element of the batch; None without a batch."""
    first = spec.shape[0] if spec.shape else 1
    return int(first.removesuffix("B") or 1) if isinstance(first, str) else None


def batch_of(tensors: Mapping[Keyword, Any], inputs: Sequence[Input]) -> int:
    """Return the batch size of a call, read from the first input that has a batch dimension.

    Raises:
        InputError: if that input is no tensor, or is empty.
    """
    spec = next((spec for spec in inputs if multiple_of(spec)), None)
    if spec is None:
        return 1
    value, multiple = tensors[spec.keyword], multiple_of(spec) or 1
    shape = tuple(getattr(value, "shape", ()))
    if not shape or not shape[0]:
        raise InputError(f"{text_of(spec.keyword)} must be a tensor with at least one element")
    return max(1, int(shape[0]) // multiple)


def as_array(value: Any, spec: Input, batch: int) -> Array:
    """Convert one argument to the array that the model reads: on the CPU, with the shape and type the model was compiled for.

    Raises:
        InputError: for another shape, with how to compile a model for it, and for fractions where integers are wanted.
    """
    name = text_of(spec.keyword)
    try:
        tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is a {type(value).__name__}, not a tensor") from error
    if tensor.is_complex():
        raise InputError(f"{name} is complex, the model wants {spec.dtype}")
    array: Array = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    expected = tuple(int(dim.removesuffix("B") or 1) * batch if isinstance(dim, str) else dim for dim in spec.shape)
    if not expected and array.size:
        if array.size > 1 and not declared(
            spec.keyword, frozenset(PUBLIC)
        ):  # only the shape is checked: comparing secret values would reveal them
            raise InputError(f"{name} has shape {tuple(array.shape)}, the model wants one number")
        if array.dtype.kind == "f" and np.isnan(array).any() and declared(spec.keyword, frozenset(PUBLIC)):
            raise InputError(f"{name} is NaN: the scheduler passes something that is not a number")
        if (array != array.reshape(-1)[0]).any():
            raise InputError(f"{name} differs within the batch: the model was compiled with one {name} for the whole batch")
        array = array.reshape(-1)[0]
    if not array.shape and expected and len(expected) == 1:
        array = np.full(expected, array)  # one number for the whole batch, as pipelines pass a timestep
    if array.shape != expected:
        raise InputError(f"{name} has shape {tuple(array.shape)}, the model wants {expected}: {_other_shape(spec, array.shape)}")
    if spec.dtype.startswith("int") and array.dtype.kind not in "iu":
        raise InputError(f"{name} has type {array.dtype}, the model wants integers")
    return np.ascontiguousarray(array, np.dtype(spec.dtype)).reshape(expected)


def _other_shape(spec: Input, shape: tuple[int, ...]) -> str:
    """Return a sentence that tells how to compile a model for this other shape."""
    if len(shape) != len(spec.shape):
        return "it has another number of dimensions"
    if shape[1:] == tuple(spec.shape[1:]):
        return "its batch size differs from that of the other arguments"
    picture = len(shape) == 4 and shape[1] == spec.shape[1] and spec.keyword[0] in ("sample", "hidden_states")
    if picture:
        height, width = shape[2:]
        return f"sizes are chosen when compiling, with size=({height}, {width}) or --size {height}x{width}"
    if len(shape) == 3 and shape[2] == spec.shape[2] and spec.keyword[0] == "encoder_hidden_states":
        return f"the length of prompts is chosen when compiling, with tokens={shape[1]} or --tokens {shape[1]}"
    return "compile again with example_inputs of that shape"
