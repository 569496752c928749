"""hecompile: compile diffusers UNets so that the server that runs them never sees the picture or the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.errors import CompileError, HecompileError, InternalError, ProtocolError
from hecompile.version import __version__ as __version__

if TYPE_CHECKING:
    from hecompile.compiled import Compiled
    from hecompile.compiler import compile_model as compile
    from hecompile.options import CompileOptions
    from hecompile.runtime.client import EncryptedUNet
    from hecompile.runtime.loading import load
    from hecompile.runtime.scheduler import EncryptedScheduler
    from hecompile.sampler_artifact import compile_sampler

__all__ = [
    "CompileError",
    "CompileOptions",
    "Compiled",
    "EncryptedScheduler",
    "EncryptedUNet",
    "HecompileError",
    "InternalError",
    "ProtocolError",
    "compile",
    "compile_sampler",
    "load",
]

_LAZY = {
    "CompileOptions": ("hecompile.options", "CompileOptions"),
    "Compiled": ("hecompile.compiled", "Compiled"),
    "EncryptedScheduler": ("hecompile.runtime.scheduler", "EncryptedScheduler"),
    "EncryptedUNet": ("hecompile.runtime.client", "EncryptedUNet"),
    "ModelMixin": ("hecompile.runtime.diffusers_model", "ModelMixin"),  # pipelines ask a part's module for it
    "compile": ("hecompile.compiler", "compile_model"),
    "compile_sampler": ("hecompile.sampler_artifact", "compile_sampler"),
    "load": ("hecompile.runtime.loading", "load"),
}


if not TYPE_CHECKING:  # checkers know the names above, and no others

    def __getattr__(name: str) -> object:
        """Importing hecompile loads neither torch nor SEAL; they load with the first name that needs them."""
        if name not in _LAZY:
            raise AttributeError(f"module 'hecompile' has no attribute '{name}'")
        import importlib

        from hecompile.errors import needing

        module, attribute = _LAZY[name]
        with needing(f"hecompile.{name}", "client" if "runtime" in module else "compile"):
            return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    """Return the public names, also those that are not loaded yet; nothing else, so that completion offers only what is meant."""
    return [*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
