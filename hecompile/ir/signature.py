"""The signature of a model: the order of its arguments, those that are no tensors, and the structure of its results.

The manifest holds it, so that a loaded model is called like the module that was compiled.

A **keyword** is the path to a tensor in a call: `("sample",)`, `("added_cond_kwargs", "text_embeds")`, or
`("down_block_additional_residuals", 3)` for the fourth tensor of a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hecompile.errors import ProtocolError

__all__ = [
    "PUBLIC",
    "Constant",
    "Keyword",
    "Results",
    "Scalar",
    "Signature",
    "check_keywords",
    "declared",
    "names_of",
    "nested",
    "text_of",
]

Keyword = tuple[str | int, ...]
Scalar = bool | int | float | str | None
MOST_DEPTH, MOST_ITEMS = 16, 4096  # of the structure of results: a manifest may come from an attacker
MOST_PARTS, MOST_CHARACTERS = 16, 1000  # parts of a keyword, and characters of a text
PUBLIC = ("timestep", "time_ids")  # inputs that say nothing of the picture; SDXL's time_ids are sizes and crops
_CLASS = re.compile(r"(?:(?:diffusers|transformers)(?:\.[A-Za-z0-9_]+)+|):[A-Za-z_][A-Za-z0-9_]{0,99}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Constant:
    """An argument that is no tensor. Every call must pass the value that the model was traced with.

    An `optional` argument may be left out, because the value is the module's own default.
    """

    keyword: Keyword
    value: Scalar
    optional: bool = False

    def __post_init__(self) -> None:
        check_keyword(self.keyword)
        if not _is_scalar(self.value):
            raise ProtocolError(f"signature: the constant {text_of(self.keyword)[:100]} is out of range")


@dataclass(frozen=True)
class Results:
    """The structure of a model's results, as a tree.

    A leaf is a `tensor` (the output at `place`) or a `constant` (`value`). Inner nodes have `items`:

    - `tuple` and `list`
    - `dict`, with `keys`; its `name` may be OrderedDict
    - `namedtuple`, with `keys` and its `name`
    - `output`: a ModelOutput of diffusers or transformers, with `keys`; `name` is its class as `module:Class`. A class of the
      user's own has an empty module and is made anew.

    Raises:
        ProtocolError: when built from anything else.
    """

    kind: Literal["tensor", "constant", "tuple", "list", "dict", "namedtuple", "output"] = "tensor"
    place: int = 0
    value: Scalar = None
    name: str = ""
    keys: tuple[str, ...] = ()
    items: tuple[Results, ...] = ()

    def __post_init__(self) -> None:
        leaf, keyed = self.kind in ("tensor", "constant"), self.kind in ("dict", "namedtuple", "output")
        if (leaf and self.items) or (keyed and len(self.keys) != len(self.items)) or self.place < 0:
            raise ProtocolError(f"results: a malformed {self.kind}")
        if self.kind == "dict" and self.name not in ("", "OrderedDict"):
            raise ProtocolError(f"results: a dictionary of kind '{self.name[:60]}'")
        if self.kind == "output" and not _CLASS.fullmatch(self.name):
            raise ProtocolError(f"results: '{self.name[:60]}' names no output class of diffusers or transformers")
        words = (self.name, *self.keys) if self.kind == "namedtuple" else self.keys if self.kind == "output" else ()
        if not all(_WORD.fullmatch(word) and not word.startswith("__") for word in words):
            raise ProtocolError(f"results: a {self.kind} with names that Python has not")
        if len(self.keys) > MOST_ITEMS or self.place > MOST_ITEMS or not all(map(_is_scalar, (self.name, self.value, *self.keys))):
            raise ProtocolError(f"results: a {self.kind} out of range")
        if self.depth > MOST_DEPTH or len(self.items) > MOST_ITEMS:
            raise ProtocolError("results: nested too deeply, or too many")

    @property
    def depth(self) -> int:
        """Levels of the tree; 1 for a leaf."""
        return 1 + max((item.depth for item in self.items), default=0)

    @property
    def places(self) -> list[int]:
        """The numbers of the outputs that the leaves stand for, in order."""
        return [self.place] if self.kind == "tensor" else [place for item in self.items for place in item.places]


@dataclass(frozen=True)
class Signature:
    """How a model is called: the names of its arguments by position, its constants, and the structure of its results.

    The last argument may be `*rest`, which gathers all further ones.
    """

    arguments: tuple[str, ...] = ()
    constants: tuple[Constant, ...] = ()
    results: Results = field(default_factory=Results)

    def __post_init__(self) -> None:
        if max(len(self.arguments), len(self.constants)) > MOST_ITEMS or not all(map(_is_scalar, self.arguments)):
            raise ProtocolError("signature: too many arguments, or names out of range")
        if len({name.removeprefix("*") for name in self.arguments}) != len(self.arguments):
            raise ProtocolError("signature: an argument stands twice")
        if any(name.startswith("*") for name in self.arguments[:-1]):
            raise ProtocolError("signature: an argument gathers what others in front of it could be")
        if len({constant.keyword for constant in self.constants}) != len(self.constants):
            raise ProtocolError("signature: a constant stands twice")


def _is_scalar(value: Scalar) -> bool:
    """Return whether a constant is the same in JSON and Python: None, a bool, an integer of 64 bits, a finite float, or a short
    text."""
    if isinstance(value, str):
        return len(value) <= MOST_CHARACTERS
    return value is None or isinstance(value, bool) or (abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value))


def check_keyword(keyword: Keyword) -> None:
    """Raises `ProtocolError` unless a keyword is a name, followed by further names and list indices."""
    names = [part.isprintable() and len(part) <= 200 if isinstance(part, str) else 0 <= part < MOST_ITEMS for part in keyword]
    if not 1 <= len(keyword) <= MOST_PARTS or not isinstance(keyword[0], str) or not all(names):
        raise ProtocolError("signature: an argument's name is not valid")


def check_keywords(keywords: Sequence[Keyword]) -> None:
    """Raises `ProtocolError` if a keyword stands twice, or is the beginning of another one, as `a` is of `a.b`."""
    for keyword in keywords:
        check_keyword(keyword)
    known = set(keywords)
    if len(known) != len(keywords) or any(keyword[:end] in known for keyword in keywords for end in range(1, len(keyword))):
        raise ProtocolError("signature: arguments that cannot be passed together")


def text_of(keyword: Keyword) -> str:
    """Return a keyword as text, such as `added_cond_kwargs.image_embeds[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keyword).removeprefix(".")


def names_of(keyword: Keyword) -> tuple[str, ...]:
    """Return the names by which an input may be declared public: its whole path, its last name, and the name of its argument."""
    words = [part for part in keyword if isinstance(part, str)]
    return tuple(dict.fromkeys((text_of(keyword), words[-1], words[0])))


def declared(keyword: Keyword, names: frozenset[str]) -> bool:
    """Return whether an input is declared by any of these names (see `names_of`)."""
    return not names.isdisjoint(names_of(keyword))


def nested(leaves: Mapping[Keyword, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call, from its leaves by keyword: nested dictionaries, and lists where the path has
    numbers."""
    tree: dict[Any, Any] = {}
    for keyword, leaf in leaves.items():
        place = tree
        for part in keyword[:-1]:
            place = place.setdefault(part, {})
        place[keyword[-1]] = leaf
    return {str(name): _listed(value) for name, value in tree.items()}


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(isinstance(part, int) for part in tree):
        return [_listed(tree[part]) for part in sorted(tree)]
    return {part: _listed(value) for part, value in tree.items()}


def results_of(outputs: Sequence[Any]) -> Results:
    """Return the structure of results without one of their own: a tensor, or a tuple of several."""
    if len(outputs) == 1:
        return Results()
    return Results("tuple", items=tuple(Results("tensor", place) for place in range(len(outputs))))
