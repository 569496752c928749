"""Loads folders that `save_pretrained` of diffusers wrote: a pipeline's, or a UNet's own. Weights must be safetensors, never
pickles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    import torch

__all__ = ["PICKLED", "is_json", "load_folder", "pickled_weights", "schedule_of_folder", "tokens_of_folder", "usual_tokens"]

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PARTS = ("unet", "transformer")  # subfolders of a pipeline that can hold its denoiser
MOST_TOKENS = 4096  # a larger `model_max_length` means that prompts are not padded
_VARIANT = re.compile(r"\.([A-Za-z0-9_]+?)(-\d{5}-of-\d{5})?\.safetensors$")  # diffusion_pytorch_model.fp16.safetensors


def pickled_weights(path: Path) -> Diagnostic:
    """Return the error for a file of pickled weights."""
    return Diagnostic(
        f"{path}: pickled weights are refused, loading them can run any code",
        help="save the model again with save_pretrained(folder, safe_serialization=True)",
    )


def is_json(value: object) -> bool:
    """Return whether a value can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def load_folder(folder: Path) -> torch.nn.Module:
    """Load the denoiser of a pipeline folder, or of its own folder, in float32.

    Raises:
        CompileError: if there is none, its class is not supported, or its weights are missing, pickled or damaged.
    """
    import torch

    inner = next((folder / part for part in _PARTS if (folder / part).is_dir()), folder)
    kind = _class_of(inner, folder)
    weights = sorted(inner.glob("*.safetensors"))
    if not weights:
        pickled = [path for path in sorted(inner.iterdir()) if path.suffix in PICKLED]
        raise CompileError(pickled_weights(pickled[0]) if pickled else f"{inner}: no safetensors weights")
    try:
        loaded: torch.nn.Module = kind.from_pretrained(  # type: ignore[attr-defined]
            inner, use_safetensors=True, local_files_only=True, variant=_variant(inner, weights), torch_dtype=torch.float32
        )
    except CompileError:
        raise
    except Exception as error:  # whatever diffusers raises, the folder cannot be used
        raise CompileError(f"{inner}: diffusers cannot load it: {error}") from error
    return loaded


def _class_of(inner: Path, folder: Path) -> type[torch.nn.Module]:
    """Return the class that a folder's configuration names, which must be one whose example inputs are known."""
    import diffusers

    from hecompile.frontend.examples import known_models

    config = inner / "config.json"
    if not config.is_file():
        if list(inner.glob("*.onnx")):
            raise CompileError(
                Diagnostic(f"{folder}: this is an ONNX model", help=f"give its file, such as {inner / 'model.onnx'}")
            )
        raise CompileError(
            Diagnostic(
                f"{folder}: there is no UNet in this folder",
                help="give a pipeline folder with unet/ or transformer/, or a folder with config.json",
            )
        )
    try:
        name = json.loads(config.read_text()).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise CompileError(f"{config}: this is not the configuration of a model: {error}") from error
    known = [model for model in known_models() if hasattr(diffusers, model)]
    if name not in known:
        raise CompileError(Diagnostic(f"{config}: the class {name} is not supported", help=f"supported are {', '.join(known)}"))
    kind: type[torch.nn.Module] = getattr(diffusers, name)
    return kind


def _variant(inner: Path, weights: list[Path]) -> str | None:
    """Return the variant to load, such as `fp16`; None if there are weights without a variant.

    Raises:
        CompileError: if there are several variants and no weights without one.
    """
    variants = set()
    for path in weights:
        match = _VARIANT.search(path.name)
        if match is None:
            return None
        variants.add(match.group(1))
    if len(variants) > 1:
        raise CompileError(
            Diagnostic(
                f"{inner}: there are weights of the variants {', '.join(sorted(variants))}",
                help="keep only one of them in the folder",
            )
        )
    return variants.pop()


def schedule_of_folder(folder: Path) -> dict[str, object] | None:
    """Return the scheduler's configuration in a pipeline folder; None if there is none."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        return {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError):
        return None


def tokens_of_folder(folder: Path) -> int | None:
    """Return the length to which a pipeline folder's tokenizer pads prompts; None if there is no tokenizer, or no such length."""
    if not (folder / "unet").is_dir():
        return None
    try:
        return usual_tokens(json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text()).get("model_max_length"))
    except (OSError, ValueError, AttributeError):
        return None


def usual_tokens(length: object) -> int | None:
    """Return a tokenizer's `model_max_length` if it is usable: tokenizers without a limit have an enormous one."""
    return length if isinstance(length, int) and not isinstance(length, bool) and 0 < length <= MOST_TOKENS else None
