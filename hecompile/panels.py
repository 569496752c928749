"""Panels of options: frozen dataclasses that declare help, bounds and choices of what a user may set, checked when built.

A backend, a policy or a pass declares its options in a panel of its own, with `option` for every field. `built` makes a panel of
what a user gave and what a backend recommends; what was given is never replaced, and an option that would do nothing is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Real
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.wording import flag_of, in_words, near, number, number_text

__all__ = [
    "Chosen",
    "Declared",
    "Idle",
    "NoOptions",
    "Panel",
    "built",
    "declared",
    "option",
]


T = TypeVar("T")
P = TypeVar("P", bound="Panel")


@dataclass(frozen=True)
class Declared:
    """What is said of one option where it is declared, and how its values are read."""

    name: str
    kind: type  # of its values: int, float, bool, str, or tuple for several texts
    default: Any
    help: str
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None
    choices: tuple[str, ...]
    unset: str
    reader: Callable[[Any], Any] | None
    known: Callable[[], Sequence[object]] | None
    hidden: bool

    @property
    def flag(self) -> str:
        """The option in a shell: `key_mib` -> `--key-mib`."""
        return flag_of(self.name)

    @property
    def values(self) -> tuple[str, ...]:
        """What may be given, to be shown and completed: the choices, or the names that are known by now; empty for free values."""
        return tuple(map(str, self.choices or (self.known() if self.known else ())))

    def read(self, value: Any) -> Any:
        """The value in its own type, texts read as people write them. Raises `CompileError` for what it cannot be."""
        if value is None and self.default is None:
            return None
        if self.reader is not None:
            value = self.reader(value)
        found = _READERS[self.kind](value)
        if found is None or not self._within(found):
            shown = number_text(value) if isinstance(value, Real) and not isinstance(value, bool) else f"'{value}'"
            expected = _NOUNS[self.kind] if found is None and not self.choices else self.expected
            raise CompileError(Diagnostic(f"{self.name} is {shown}: it must be {expected}", help=self._way_out(value)))
        return found

    def _within(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        low = (self.at_least is None or value >= self.at_least) and (self.above is None or value > self.above)
        return low and (self.at_most is None or value <= self.at_most) and (self.below is None or value < self.below)

    @property
    def expected(self) -> str:
        """What a value must be, in words: `between 1 and 31`."""
        if self.choices:
            return in_words(self.choices, "or")
        if self.at_least is not None and self.at_most is not None:
            return f"between {number_text(self.at_least)} and {number_text(self.at_most)}"
        words = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {number_text(end)}" for word, end in words.items() if end is not None) or _NOUNS[self.kind]

    @property
    def described(self) -> str:
        """The help, with what numbers are within and the default."""
        parts = [self.help]
        if (self.at_least, self.above) != (None, None) and (self.at_most, self.below) != (None, None):
            parts.append(self.expected)
        if self.default not in (None, False, ()) or self.unset:
            parts.append(f"default: {self._default_text()}")
        return "; ".join(parts)

    def _default_text(self) -> str:
        if isinstance(self.default, bool):
            return "yes"
        return number_text(self.default) if isinstance(self.default, int | float) else self.default or self.unset

    def _way_out(self, value: Any) -> str:
        if self.choices and (found := near(str(value), self.choices)):
            return f"did you mean {found}?"
        return f"{self.flag}: {self.help}"


def option(
    default: T,
    *,
    help: str,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    unset: str = "",
    reader: Callable[[Any], Any] | None = None,
    known: Callable[[], Sequence[object]] | None = None,
    hidden: bool = False,
) -> T:
    """A field of a panel. `None` as a default means that nothing is chosen.

    Args:
        help: what it does, for people; the command line shows it.
        at_least, at_most: ends of what a number may be; `above` and `below` are ends that it may not be.
        choices: every value that a text may have.
        unset: what None stands for, for people.
        reader: makes a text of what else may be given.
        known: lists the values of an option whose panel judges them by itself, such as names that others register.
        hidden: whether help leaves it out: it is there only to be refused with a reason.
    """
    said: dict[str, object] = {"help": help, "at_least": at_least, "at_most": at_most, "above": above, "below": below}
    said |= {"choices": tuple(choices), "unset": unset, "reader": reader, "known": known, "hidden": hidden}
    found: T = field(default=default, metadata={"option": said})
    return found


@dataclass(frozen=True)
class Idle:
    """Options that do nothing beside what else was chosen: why, and which choice would let them do something."""

    names: tuple[str, ...]
    reason: str  # "activations stay exact"
    way_out: str  # "--activations polynomial"

    def finding(self, name: str) -> Diagnostic:
        """The refusal of one of them."""
        return Diagnostic(f"{name} does nothing: {self.reason}", help=f"add {self.way_out}, or leave {flag_of(name)} away")


class Chosen(Protocol):
    """All that was chosen for a compilation, whatever panel it lies in."""

    @property
    def given(self) -> Mapping[str, object]:
        """What the user gave, by name."""

    def value(self, name: str) -> Any:
        """The value of an option: given, recommended or its default."""


@dataclass(frozen=True)
class Panel:
    """The options of a backend, a policy or a pass, checked when built.

    Raises:
        CompileError: for values out of bounds; lists every one.
    """

    title: ClassVar[str] = ""  # over its flags; panels of backends and policies go by their names
    recommends: ClassVar[Mapping[str, object]] = MappingProxyType({})  # values, of any panel, where the user gave none
    alternatives: ClassVar[tuple[tuple[tuple[str, ...], str], ...]] = ()  # options of which one may be given, and what each does

    def __post_init__(self) -> None:
        findings = list[Diagnostic]()
        for name, each in declared(type(self)).items():
            try:
                object.__setattr__(self, name, each.read(getattr(self, name)))
            except CompileError as error:
                findings += error.diagnostics
        for names, what in self.alternatives:
            chosen = [name for name in names if getattr(self, name) is not None]
            if len(chosen) > 1:
                findings.append(Diagnostic(f"{in_words(chosen, 'and')} each {what}", help="give one of them"))
        if findings:
            raise CompileError(findings)
        self.check()

    def check(self) -> None:
        """Raises `CompileError` for what bounds and choices cannot say."""

    def idle(self) -> Sequence[Idle]:
        """The options of this panel that do nothing beside its other values."""
        return ()

    def judge(self, chosen: Chosen) -> list[Diagnostic]:
        """Why this panel cannot stand beside what was chosen in others."""
        return []


@dataclass(frozen=True)
class NoOptions(Panel):
    """The panel of what has no options."""


def declared(kind: type[Panel]) -> Mapping[str, Declared]:
    """The options of a panel by name, in their order."""
    if kind not in _DECLARED:
        hints = get_type_hints(kind)
        _DECLARED[kind] = {each.name: _declared(each, hints[each.name]) for each in fields(kind)}
    return _DECLARED[kind]


def _declared(each: Field[Any], hint: Any) -> Declared:
    if each.default is MISSING or "option" not in each.metadata:
        raise InternalError(f"{each.name} is declared without option(...)")
    parts = [part for part in get_args(hint) if part is not type(None)] if type(None) in get_args(hint) else [hint]
    kind = tuple if getattr(parts[0], "__origin__", None) is tuple else parts[0]
    return Declared(each.name, kind, each.default, **each.metadata["option"])


def built(kind: type[P], given: Mapping[str, object], recommended: Mapping[str, object] | None = None) -> P:
    """The panel with what was given, and what is recommended where nothing was given. Other names are left aside.

    Raises:
        CompileError: for values out of bounds, and for what was given and does nothing; lists every finding.
    """
    own = {name: value for name, value in given.items() if name in declared(kind)}
    decided = {name for names, _ in kind.alternatives if own.keys() & set(names) for name in names}
    filled = {name: value for name, value in (recommended or {}).items() if name in declared(kind) and name not in decided}
    panel = kind(**{**filled, **own})
    findings = [each.finding(name) for each in panel.idle() for name in each.names if name in own]
    if findings:
        raise CompileError(findings)
    return panel


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None or found != int(found) else int(found)


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, tuple | list) or not all(isinstance(each, str) for each in values):
        return None
    return tuple(values)


_DECLARED: dict[type[Panel], dict[str, Declared]] = {}  # read once
_READERS: Mapping[type, Callable[[Any], Any]] = {int: _whole, float: number, bool: _truth, str: _text, tuple: _texts}
_NOUNS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", tuple: "a list of texts"}
