"""Makes the flags of a command from panels of options, so that a shell offers every option that Python does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hecompile.panels import Declared, Panel, declared

__all__ = ["completing", "given_flags", "values_text", "with_option_flags"]

METAVARS: Mapping[type, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT", tuple: "TEXT"}
KINDS: Mapping[type, Any] = {
    bool: bool | None,
    tuple: list[str] | None,
}  # numbers arrive as text, since the panel also accepts 2^-40


def with_option_flags(function: Callable[..., None], panels: Mapping[type[Panel], str]) -> Callable[..., None]:
    """Add a flag for every option of these panels, grouped under their titles, to a command. It receives them as keyword arguments.

    A flag that was not given is None. An option that occurs in several panels gets one flag, under the first of them.
    """
    signature = inspect.signature(function, eval_str=True)
    kept = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    flags = dict[str, inspect.Parameter]()
    for panel, title in panels.items():
        flags |= {name: _flag(option, title) for name, option in declared(panel).items() if name not in flags}
    parameters = [*kept, *flags.values()]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return function


def values_text(values: Sequence[str]) -> str:
    """Return the values of an option as help shows them: `[strict|simulation]`."""
    return f"[{'|'.join(values)}]"


def completing(values: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a function that gives the values which start with what the user has typed, for the shell's completion."""

    def suggested(incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return suggested


def given_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def _flag(declaration: Declared, title: str) -> inspect.Parameter:
    """Return the parameter of the command for an option."""
    switch = declaration.kind is bool
    spelling = f"{declaration.flag}/--no-{declaration.flag.removeprefix('--')}" if declaration.default is True else declaration.flag
    metavar = None if switch else values_text(declaration.values) if declaration.values else METAVARS[declaration.kind]
    option: Any = typer.Option(
        spelling, help=declaration.described, metavar=metavar, show_default=False, rich_help_panel=title, hidden=declaration.hidden,
        autocompletion=completing(lambda: declaration.values) if declaration.values else None,
    )  # fmt: skip
    kind: Any = KINDS.get(declaration.kind, str | None)
    annotation = Annotated[kind, option]
    return inspect.Parameter(declaration.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
