"""Passes of other installed packages, which run where they are asked for by name.

A package adds a pass by an entry point of the group `hecompile.passes`, whose name is the pass's and whose value names its class.
The class is built without arguments, and its attribute `after` is the name of the pass that it follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hecompile.errors import CompileError, Diagnostic, unknown_name
from hecompile.ir.passes import Pass

__all__ = ["following", "installed_passes"]

GROUP = "hecompile.passes"


@lru_cache(maxsize=1)
def installed_passes() -> Mapping[str, EntryPoint]:
    """Where each installed pass comes from, by its name. None of their code runs before one is asked for."""
    return {point.name: point for point in entry_points(group=GROUP)}


def following(names: Sequence[str], own: Sequence[str]) -> dict[str, list[Pass[Any, Any]]]:
    """The installed passes of these names, by the pass of `own` that each follows.

    Raises:
        CompileError: for names that no package has, listing those that exist, and for classes that are no pass of their name.
    """
    found = dict[str, list[Pass[Any, Any]]]()
    for name in dict.fromkeys(names):
        if name not in installed_passes():
            raise unknown_name("installed pass", name, [*installed_passes()])
        if name in own:
            raise CompileError(Diagnostic(f"there is already a pass '{name}'", help="the package must choose another name"))
        made = _from_package(installed_passes()[name])
        after = str(getattr(made, "after", ""))
        if after not in own:
            told = f"follows '{after}', which is no pass" if after else "follows no pass: its class needs an attribute 'after'"
            raise CompileError(Diagnostic(f"pass '{name}' {told}", help=f"known: {', '.join(own)}"))
        found.setdefault(after, []).append(made)
    return found


def _from_package(point: EntryPoint) -> Pass[Any, Any]:
    """Raises `CompileError` if what the entry point names is no pass of its name."""
    try:
        made = point.load()()
    except Exception as error:  # whatever somebody else's module raises
        raise CompileError(Diagnostic(f"pass '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(made, Pass) or made.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is no pass '{point.name}'", help="its class needs this name"))
    return made
