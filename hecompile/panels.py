"""Panels of options: frozen dataclasses whose fields declare help, bounds and choices, and which are checked when built.

A backend, a policy or a pass declares its options in a panel of its own, with `option` for every field. `built` makes a panel from
the values that the user gave and those that a backend recommends. A given value is never replaced, and an option that would do
nothing is refused.
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
    "AllOptions",
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
    """One option as it was declared with `option`. It reads and checks values."""

    name: str
    kind: type  # the type of its values: int, float, bool, str, or tuple for several texts
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
        """The option's flag in a shell, such as `--key-mib` for `key_mib`."""
        return flag_of(self.name)

    @property
    def values(self) -> tuple[str, ...]:
        """The possible values, for help and completion: the choices, or the names known so far. Empty if any value is possible."""
        return tuple(map(str, self.choices or (self.known() if self.known else ())))

    def read(self, value: Any) -> Any:
        """Return the value in the option's type; a text such as `2^-40` is read as a number. Raises `CompileError` for other
        values."""
        if value is None and self.default is None:
            return None
        if self.reader is not None:
            value = self.reader(value)
        typed = _READERS[self.kind](value)
        if typed is None or not self._within(typed):
            text = number_text(value) if isinstance(value, Real) and not isinstance(value, bool) else f"'{value}'"
            expected = _NOUNS[self.kind] if typed is None and not self.choices else self.expected
            raise CompileError(Diagnostic(f"{self.name} is {text}: it must be {expected}", help=self._way_out(value)))
        return typed

    def _within(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        low = (self.at_least is None or value >= self.at_least) and (self.above is None or value > self.above)
        return low and (self.at_most is None or value <= self.at_most) and (self.below is None or value < self.below)

    @property
    def expected(self) -> str:
        """What a value must be, in words, such as `between 1 and 31`."""
        if self.choices:
            return in_words(self.choices, "or")
        if self.at_least is not None and self.at_most is not None:
            return f"between {number_text(self.at_least)} and {number_text(self.at_most)}"
        words = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{word} {number_text(end)}" for word, end in words.items() if end is not None) or _NOUNS[self.kind]

    @property
    def described(self) -> str:
        """The help text with the bounds and the default."""
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
        if self.choices and (similar := near(str(value), self.choices)):
            return f"did you mean {similar}?"
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
    """Declare a field of a panel as an option. The default None means that the option is not set.

    Args:
        help: what the option does, as help texts print it.
        at_least, at_most: the least and the largest value of a number.
        above, below: values that a number must be above or below.
        choices: all values that a text may have.
        unset: what help texts print as the default if that is None.
        reader: turns other kinds of values into a text.
        known: lists possible values for help; the panel checks them itself.
        hidden: whether help texts leave the option out.
    """
    metadata: dict[str, object] = {"help": help, "at_least": at_least, "at_most": at_most, "above": above, "below": below}
    metadata |= {"choices": tuple(choices), "unset": unset, "reader": reader, "known": known, "hidden": hidden}
    declaration: T = field(default=default, metadata={"option": metadata})
    return declaration


@dataclass(frozen=True)
class Idle:
    """Options that do nothing together with the other ones: why that is so, and with which choice they would do something."""

    names: tuple[str, ...]
    reason: str  # "activations stay exact"
    way_out: str  # "--activations polynomial"

    def finding(self, name: str) -> Diagnostic:
        """Return the finding about one of these options."""
        return Diagnostic(f"{name} does nothing: {self.reason}", help=f"add {self.way_out}, or leave {flag_of(name)} away")


class AllOptions(Protocol):
    """All options of a compilation, of all panels."""

    @property
    def given(self) -> Mapping[str, object]:
        """The options that the user gave, by name."""

    def value(self, name: str) -> Any:
        """Return the value of an option: given, recommended or its default."""


@dataclass(frozen=True)
class Panel:
    """The options of a backend, a policy or a pass, checked when built.

    Raises:
        CompileError: for values out of bounds; it lists all of them.
    """

    title: ClassVar[str] = ""  # the heading of its flags; backends and policies have one made of their names
    recommends: ClassVar[Mapping[str, object]] = MappingProxyType({})  # values, of any panel, for options that were not given
    alternatives: ClassVar[tuple[tuple[tuple[str, ...], str], ...]] = ()  # options of which one may be given, and what they do

    def __post_init__(self) -> None:
        findings = list[Diagnostic]()
        for name, entry in declared(type(self)).items():
            try:
                object.__setattr__(self, name, entry.read(getattr(self, name)))
            except CompileError as error:
                findings += error.diagnostics
        for names, what in self.alternatives:
            set_names = [name for name in names if getattr(self, name) is not None]
            if len(set_names) > 1:
                findings.append(Diagnostic(f"{in_words(set_names, 'and')} each {what}", help="give one of them"))
        if findings:
            raise CompileError(findings)
        self.check()

    def check(self) -> None:
        """Check what bounds and choices cannot express. Raises `CompileError`."""

    def idle(self) -> Sequence[Idle]:
        """Return the options of this panel that do nothing beside its other values."""
        return ()

    def conflicts(self, options: AllOptions) -> list[Diagnostic]:
        """Return one finding for every reason why this panel contradicts the options of other panels."""
        return []


@dataclass(frozen=True)
class NoOptions(Panel):
    """The panel of a backend, policy or pass that has no options."""


def declared(kind: type[Panel]) -> Mapping[str, Declared]:
    """Return the options of a panel by name, in the order in which they were declared."""
    if kind not in _DECLARED:
        hints = get_type_hints(kind)
        _DECLARED[kind] = {entry.name: _declared(entry, hints[entry.name]) for entry in fields(kind)}
    return _DECLARED[kind]


def _declared(entry: Field[Any], hint: Any) -> Declared:
    if entry.default is MISSING or "option" not in entry.metadata:
        raise InternalError(f"{entry.name} is declared without option(...)")
    parts = [part for part in get_args(hint) if part is not type(None)] if type(None) in get_args(hint) else [hint]
    kind = tuple if getattr(parts[0], "__origin__", None) is tuple else parts[0]
    return Declared(entry.name, kind, entry.default, **entry.metadata["option"])


def built(kind: type[P], given: Mapping[str, object], recommended: Mapping[str, object] | None = None) -> P:
    """Return the panel with the given values, and with recommended ones for options that were not given. Other names are ignored.

    Raises:
        CompileError: for values out of bounds, and for given options that do nothing; it lists all findings.
    """
    own = {name: value for name, value in given.items() if name in declared(kind)}
    decided = {name for names, _ in kind.alternatives if own.keys() & set(names) for name in names}
    filled = {name: value for name, value in (recommended or {}).items() if name in declared(kind) and name not in decided}
    panel = kind(**{**filled, **own})
    findings = [idle.finding(name) for idle in panel.idle() for name in idle.names if name in own]
    if findings:
        raise CompileError(findings)
    return panel


def _whole(value: Any) -> int | None:
    parsed = number(value)
    return None if parsed is None or parsed != int(parsed) else int(parsed)


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def _texts(value: Any) -> tuple[str, ...] | None:
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, tuple | list) or not all(isinstance(text, str) for text in values):
        return None
    return tuple(values)


_DECLARED: dict[type[Panel], dict[str, Declared]] = {}  # a cache for `declared`
_READERS: Mapping[type, Callable[[Any], Any]] = {int: _whole, float: number, bool: _truth, str: _text, tuple: _texts}
_NOUNS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", tuple: "a list of texts"}
