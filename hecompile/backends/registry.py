"""Every backend by name: one line each, and whatever other packages add.

A package adds a backend by an entry point of the group `hecompile.backends`, whose name is the backend's and whose value names its
class; a program by `register_backend`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend
from hecompile.errors import CompileError, Diagnostic, ProtocolError, unknown_name

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.ir.candidates import Candidate
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import Half
    from hecompile.panels import Panel

__all__ = [
    "backend",
    "backend_names",
    "backend_of",
    "backends_at_hand",
    "family",
    "is_own",
    "model_backends",
    "name_of",
    "options_of",
    "proposals",
    "register_backend",
]

GROUP = "hecompile.backends"
_OWN = {
    "bfv": ("hecompile.backends.bfv.backend", "BfvBackend"),
    "clear": ("hecompile.backends.bfv.clear.backend", "ClearBackend"),
    "ckks": ("hecompile.backends.ckks.backend", "CkksBackend"),
    "ckks_clear": ("hecompile.backends.ckks.backend", "CkksClearBackend"),
    "concrete": ("hecompile.backends.concrete.linear.backend", "ConcreteBackend"),
    "concrete_lookups": ("hecompile.backends.concrete.lookups.backend", "LookupBackend"),
    "concrete_stacks": ("hecompile.backends.concrete.stacks.backend", "StackBackend"),
    "affine": ("hecompile.backends.sampler_step.backend", "AffineBackend"),
}
_OF_SAMPLERS = ("affine",)  # of `hecompile compile-sampler` alone: it runs no model
_REGISTERED: dict[str, Callable[[], Backend]] = {}


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    """The backends of other installed packages. None of their code runs before one is asked for by its name."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _OWN}


def register_backend(name: str, make: Callable[[], Backend]) -> None:
    """Make a user's own backend known by its name. Artifacts that use it load only where the caller names it (`load(backends=)`).

    Raises:
        CompileError: if the name is taken.
    """
    if name in backend_names():
        raise CompileError(Diagnostic(f"there is already a backend '{name}'", help="choose another name"))
    _REGISTERED[name] = make


def is_own(name: str) -> bool:
    """Whether a backend comes with hecompile."""
    return name in _OWN


def backend_names() -> tuple[str, ...]:
    """Names of all that there are."""
    return tuple(dict.fromkeys((*_OWN, *_REGISTERED, *_installed())))


def model_backends() -> tuple[str, ...]:
    """Names for `--backend`: those that run models, not a sampler's step."""
    return tuple(name for name in backend_names() if name not in _OF_SAMPLERS)


def backends_at_hand() -> tuple[str, ...]:
    """Names of own and registered backends: of other packages nothing has run."""
    return (*_OWN, *_REGISTERED)


def backend(name: str) -> Backend:
    """The backend of this name. Raises `CompileError` listing the names that exist."""
    if name in _OWN:
        module, kind = _OWN[name]
        made: Backend = getattr(importlib.import_module(module), kind)()
        return made
    if name in _REGISTERED:
        return _REGISTERED[name]()
    if name in _installed():
        return _from_package(_installed()[name])
    raise unknown_name("backend", name, model_backends())


def _from_package(point: EntryPoint) -> Backend:
    """Raises `CompileError` if what the entry point names is no backend of its name."""
    try:
        found = point.load()()
    except Exception as error:  # whatever somebody else's module raises
        raise CompileError(Diagnostic(f"backend '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(found, Backend) or found.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is no backend '{point.name}'", help="its class needs this name"))
    return found


def family(names: tuple[str, ...]) -> tuple[str, ...]:
    """These backends and all that their proposals may hold regions of, each once."""
    found = list(dict.fromkeys(names))
    for name in found:  # grows while it is walked
        found += [other for other in backend(name).others if other not in found]
    return tuple(found)


def proposals(name: str, graph: ModelGraph, context: Context) -> list[Candidate]:
    """What the backend of this name proposes. Raises `CompileError` listing the names that exist."""
    return backend(name).propose(graph, context)


def name_of(half: Half) -> str:
    """The name of the backend that a half was lowered by, which may not exist."""
    return str(half.program.get("backend"))


def options_of(name: str) -> type[Panel]:
    """The options of a backend, as it declares them itself. Raises `CompileError` listing the names that exist."""
    return backend(name).options


def backend_of(half: Half) -> Backend:
    """The backend that a half was lowered by. Raises `ProtocolError` if its program names none that exists."""
    try:
        return backend(name_of(half))
    except CompileError as error:
        raise ProtocolError(f"region program: {error}") from error
