"""Flags of a command from panels of options: what can be chosen in Python can be chosen in a shell."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hecompile.panels import Declared, Panel, declared

__all__ = ["completing", "given_flags", "values_text", "with_option_flags"]

METAVARS: Mapping[type, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT", tuple: "TEXT"}
KINDS: Mapping[type, Any] = {bool: bool | None, tuple: list[str] | None}  # numbers come as texts: 2^-40 is read by the panel


def with_option_flags(function: Callable[..., None], panels: Mapping[type[Panel], str]) -> Callable[..., None]:
    """Adds a flag for every option of these panels, under their titles; the function gets them as keyword arguments.

    What was not given is None. Options that a panel has from another one are the other's.
    """
    signature = inspect.signature(function, eval_str=True)
    kept = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    flags = dict[str, inspect.Parameter]()
    for panel, title in panels.items():
        flags |= {name: _flag(each, title) for name, each in declared(panel).items() if name not in flags}
    parameters = [*kept, *flags.values()]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return function


def values_text(values: Sequence[str]) -> str:
    """What may be given to an option, as help shows it: `[strict|simulation]`."""
    return f"[{'|'.join(values)}]"


def completing(values: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell suggests for an option or argument: those of these values that begin as what is typed."""

    def suggested(incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return suggested


def given_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The options that stood in the command."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def _flag(each: Declared, title: str) -> inspect.Parameter:
    """The parameter of an option."""
    switch = each.kind is bool
    spelling = f"{each.flag}/--no-{each.flag.removeprefix('--')}" if each.default is True else each.flag
    metavar = None if switch else values_text(each.values) if each.values else METAVARS[each.kind]
    option: Any = typer.Option(
        spelling, help=each.described, metavar=metavar, show_default=False, rich_help_panel=title, hidden=each.hidden,
        autocompletion=completing(lambda: each.values) if each.values else None,
    )  # fmt: skip
    kind: Any = KINDS.get(each.kind, str | None)
    annotation = Annotated[kind, option]
    return inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
