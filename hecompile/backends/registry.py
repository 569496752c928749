"""All backends by name: hecompile's own, one line each, and those that other packages or programs add.

A package adds a backend by an entry point of the group `hecompile.backends`: its name is the backend's name, its value the
backend's class. A program adds one by `register_backend`.
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
    "sampler_step": ("hecompile.backends.sampler_step.backend", "SamplerStepBackend"),
}
_OF_SAMPLERS = ("sampler_step",)  # for `hecompile compile-sampler` only: they run no model
_REGISTERED: dict[str, Callable[[], Backend]] = {}


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    """The entry points of other installed packages. None of their code runs before one of them is asked for by name."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _OWN}


def register_backend(name: str, make: Callable[[], Backend]) -> None:
    """Add a backend of the user's own under this name. Its artifacts load only if the caller names it (`load(backends=)`).

    Raises:
        CompileError: if the name is taken.
    """
    if name in backend_names():
        raise CompileError(Diagnostic(f"there is already a backend '{name}'", help="choose another name"))
    _REGISTERED[name] = make


def is_own(name: str) -> bool:
    """Whether the backend of this name comes with hecompile."""
    return name in _OWN


def backend_names() -> tuple[str, ...]:
    """The names of all backends."""
    return tuple(dict.fromkeys((*_OWN, *_REGISTERED, *_installed())))


def model_backends() -> tuple[str, ...]:
    """The names that `--backend` takes: backends that run models, not a sampler's step."""
    return tuple(name for name in backend_names() if name not in _OF_SAMPLERS)


def backends_at_hand() -> tuple[str, ...]:
    """The names of hecompile's own and registered backends, for callers that must not run code of other packages."""
    return (*_OWN, *_REGISTERED)


def backend(name: str) -> Backend:
    """The backend of this name. Raises `CompileError`, which lists the names that exist."""
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
    """The backend of an entry point. Raises `CompileError` if it does not load, or is no backend of that name."""
    try:
        made = point.load()()
    except Exception as error:  # code of another package may raise anything
        raise CompileError(Diagnostic(f"backend '{point.name}' does not load: {error}", help=f"it is '{point.value}'")) from error
    if not isinstance(made, Backend) or made.name != point.name:
        raise CompileError(Diagnostic(f"'{point.value}' is no backend '{point.name}'", help="its class needs this name"))
    return made


def family(names: tuple[str, ...]) -> tuple[str, ...]:
    """These backends and all whose regions their proposals may contain, each once."""
    all_names = list(dict.fromkeys(names))
    for name in all_names:  # the list grows during the loop
        all_names += [other for other in backend(name).others if other not in all_names]
    return tuple(all_names)


def proposals(name: str, graph: ModelGraph, context: Context) -> list[Candidate]:
    """What the backend of this name proposes. Raises `CompileError`, which lists the names that exist."""
    return backend(name).propose(graph, context)


def name_of(half: Half) -> str:
    """The name of the backend that lowered a half. There may be no such backend."""
    return str(half.program.get("backend"))


def options_of(name: str) -> type[Panel]:
    """The class of a backend's options. Raises `CompileError`, which lists the names that exist."""
    return backend(name).options


def backend_of(half: Half) -> Backend:
    """The backend that lowered a half. Raises `ProtocolError` if its document names none that exists."""
    try:
        return backend(name_of(half))
    except CompileError as error:
        raise ProtocolError(f"region program: {error}") from error
