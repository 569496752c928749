"""Flags of a command from the fields of an options class: what can be chosen in Python can be chosen in a shell."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from hecompile.options import CompileOptions

__all__ = ["with_option_flags"]


def with_option_flags(function: Callable[..., None], options: type = CompileOptions) -> Callable[..., None]:
    """Adds one flag per field of the options; the function gets them as keyword arguments."""
    signature = inspect.signature(function, eval_str=True)
    kept = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    flags = []
    for each in fields(options):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        kinds = {"str | None": str | None, "float | None": float | None, "int | None": int | None, "tuple[str, ...]": list[str]}
        kind: Any = kinds.get(str(each.type), type(default))
        name = each.name.replace("_", "-")
        option = typer.Option(f"--{name}/--no-{name}" if default is True else f"--{name}", help=each.metadata["help"])
        default = list(default) if isinstance(default, tuple) else default
        flags.append(
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
        )
    function.__signature__ = signature.replace(parameters=[*kept, *flags])  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in [*kept, *flags]} | {"return": None}
    return function
