"""The core's kernel on this machine, tested before anything is computed with it."""

from __future__ import annotations

from functools import cache

from hecompile import _core
from hecompile.errors import HecompileError

__all__ = ["UnsafeMachineError", "proved_kernel"]


class UnsafeMachineError(HecompileError):
    """The kernel computes wrongly on this machine, so neither a server nor a client may use it."""


@cache
def proved_kernel() -> str:
    """The name of the kernel in use, after it passed its self-test.

    Raises:
        UnsafeMachineError: if its words differ from those of the portable kernel.
    """
    name = _core.kernel()
    if not _core.self_test(name):
        raise UnsafeMachineError(f"kernel '{name}' computes wrongly on this machine: set HECOMPILE_KERNEL=portable")
    return name
