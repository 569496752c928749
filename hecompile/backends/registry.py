"""Every backend by name: one line each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from hecompile.backends.base import Backend
from hecompile.errors import CompileError, Diagnostic, ProtocolError, unknown_name
from hecompile.ir.halves import Half
from hecompile.panels import NoOptions, Panel

__all__ = ["backend", "backend_names", "backend_of", "is_own", "options_of", "register_backend"]


def _bfv() -> Backend:
    from hecompile.backends.bfv.backend import BfvBackend

    return BfvBackend()


def _clear() -> Backend:
    from hecompile.backends.bfv.clear import ClearBackend

    return ClearBackend()


def _ckks() -> Backend:
    from hecompile.backends.ckks.backend import CkksBackend

    return CkksBackend()


def _ckks_clear() -> Backend:
    from hecompile.backends.ckks.backend import CkksClearBackend

    return CkksClearBackend()


def _concrete() -> Backend:
    from hecompile.backends.concrete.linear.backend import ConcreteBackend

    return ConcreteBackend()


def _concrete_lookups() -> Backend:
    from hecompile.backends.concrete.lookups.backend import LookupBackend

    return LookupBackend()


def _concrete_stacks() -> Backend:
    from hecompile.backends.concrete.stacks.backend import StackBackend

    return StackBackend()


def _affine() -> Backend:
    from hecompile.backends.sampler_step.backend import AffineBackend

    return AffineBackend()


_BACKENDS: dict[str, Callable[[], Backend]] = {
    "bfv": _bfv,
    "clear": _clear,
    "ckks": _ckks,
    "ckks_clear": _ckks_clear,
    "concrete": _concrete,
    "concrete_lookups": _concrete_lookups,
    "concrete_stacks": _concrete_stacks,
    "affine": _affine,
}

_OPTIONS = {  # the panels of those that have options: read by the command line, which loads no scheme for them
    "ckks": ("hecompile.backends.ckks.options", "CkksOptions"),
    "ckks_clear": ("hecompile.backends.ckks.options", "CkksOptions"),
    "concrete": ("hecompile.backends.concrete.options", "ConcreteOptions"),
    "concrete_lookups": ("hecompile.backends.concrete.lookups.options", "LookupOptions"),
    "concrete_stacks": ("hecompile.backends.concrete.options", "ConcreteOptions"),
}

_OWN = frozenset(_BACKENDS)


def register_backend(name: str, make: Callable[[], Backend]) -> None:
    """Make a user's own backend known by its name. Artifacts that use it load only where the caller names it (`load(backends=)`).

    Raises:
        CompileError: if the name is taken.
    """
    if name in _BACKENDS:
        raise CompileError(Diagnostic(f"there is already a backend '{name}'", help="choose another name"))
    _BACKENDS[name] = make


def is_own(name: str) -> bool:
    """Whether a backend comes with hecompile."""
    return name in _OWN


def backend_names() -> tuple[str, ...]:
    """Names for `--backend`."""
    return tuple(_BACKENDS)


def backend(name: str) -> Backend:
    """The backend of this name. Raises `CompileError` listing the names that exist."""
    if name not in _BACKENDS:
        raise unknown_name("backend", name, backend_names())
    return _BACKENDS[name]()


def options_of(name: str) -> type[Panel]:
    """The options of a backend, as it declares them itself. Raises `CompileError` listing the names that exist."""
    if name in _OPTIONS:
        module, kind = _OPTIONS[name]
        found: type[Panel] = getattr(import_module(module), kind)
        return found
    return NoOptions if is_own(name) else backend(name).options


def backend_of(half: Half) -> Backend:
    """The backend that a half was lowered by. Raises `ProtocolError` if its program names none that exists."""
    try:
        return backend(str(half.program.get("backend")))
    except CompileError as error:
        raise ProtocolError(f"region program: {error}") from error
