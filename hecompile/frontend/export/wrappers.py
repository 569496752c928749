"""Removes wrappers around a module, and names settings of it that cannot be traced."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic

__all__ = ["refuse_untraceable", "unwrapped"]


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside `torch.compile`, `nn.DataParallel` and `DistributedDataParallel`, however often they are nested."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = module.module if isinstance(module, parallel) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def refuse_untraceable(module: torch.nn.Module) -> None:
    """Raise `CompileError` for a model that is compiled already, for attention that loops over the batch, and for FreeU's
    filters."""
    if hasattr(module, "manifest_name"):
        raise CompileError(
            Diagnostic(f"{module.manifest_name} is a compiled model already", help="give the model that it was compiled from")
        )
    for name, part in module.named_modules():
        processor = type(getattr(part, "processor", None)).__name__
        if "Sliced" in processor:
            raise CompileError(
                Diagnostic(
                    f"{name} has the attention processor {processor}, which loops over slices of the batch",
                    help="turn slicing off first: unet.set_attention_slice(None), or pipe.disable_attention_slicing()",
                )
            )
        if getattr(part, "s1", None) and getattr(part, "b1", None) and hasattr(part, "resolution_idx"):
            raise CompileError(
                Diagnostic(f"{name} has FreeU turned on, which filters by Fourier transforms", help="call pipe.disable_freeu()")
            )
