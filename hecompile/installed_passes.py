"""Passes of other installed packages, which run if the user names them.

A package adds a pass by an entry point of the group `hecompile.passes`, which has the pass's name and names its class. The class is
built without arguments. Its attribute `after` is the name of the pass behind which it runs.
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
    """Return the entry points of installed passes by name. Nothing of a package is imported before its pass is asked for."""
    return {point.name: point for point in entry_points(group=GROUP)}


def following(names: Sequence[str], own: Sequence[str]) -> dict[str, list[Pass[Any, Any]]]:
    """Return the installed passes with these names, by the name of the pass in `own` behind which each runs.

    Raises:
        CompileError: for unknown names, for names of passes in `own`, for classes that are not a pass with the given name, and
            for passes that do not say which pass of `own` they follow.
    """
    passes = dict[str, list[Pass[Any, Any]]]()
    for name in dict.fromkeys(names):
        if name not in installed_passes():
            raise unknown_name("installed pass", name, [*installed_passes()])
        if name in own:
            raise CompileError(Diagnostic(f"there is already a pass '{name}'", help="the package must choose another name"))
        made = _from_package(installed_passes()[name])
        after = str(getattr(made, "after", ""))
        if after not in own:
            fault = f"follows '{after}', which is no pass" if after else "follows no pass: its class needs an attribute 'after'"
            raise CompileError(Diagnostic(f"pass '{name}' {fault}", help=f"known: {', '.join(own)}"))
        passes.setdefault(after, []).append(made)
    return passes


def _from_package(point: EntryPoint) -> Pass[Any, Any]:
    """Return the pass of an entry point. Raises `CompileError` if it cannot be loaded, or is not a pass with the entry point's
    name."""
    try:
        made = point.load()()
    except Exception as error:  # whatever somebody else's module raises
        raise CompileError(Diagnostic(f"pass '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(made, Pass) or made.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is not a pass named '{point.name}'", help="give its class this name"))
    return made
