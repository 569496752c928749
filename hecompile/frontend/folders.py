"""Folders as `save_pretrained` of diffusers writes them: a pipeline's, or a UNet's own. Weights are safetensors, never pickles."""

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
_PARTS = ("unet", "transformer")  # of a pipeline's folder
MOST_TOKENS = 4096  # of a prompt that pipelines fill
_VARIANT = re.compile(r"\.([A-Za-z0-9_]+?)(-\d{5}-of-\d{5})?\.safetensors$")  # diffusion_pytorch_model.fp16.safetensors


def pickled_weights(path: Path) -> Diagnostic:
    """The finding for a file of pickled weights."""
    return Diagnostic(
        f"{path}: pickled weights are refused, loading them can run any code",
        help="save the model again with save_pretrained(folder, safe_serialization=True)",
    )


def is_json(value: object) -> bool:
    """Whether a value can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def load_folder(folder: Path) -> torch.nn.Module:
    """The denoiser of a pipeline folder, or of its own folder, in float32.

    Raises:
        CompileError: if there is none, it is of a class that is not known, or its weights are absent, pickled or broken.
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
    except Exception as error:  # diffusers raises many kinds; all mean that the folder is broken
        raise CompileError(f"{inner}: diffusers cannot load it: {error}") from error
    return loaded


def _class_of(inner: Path, folder: Path) -> type[torch.nn.Module]:
    """The class that a folder's configuration names: one whose example inputs are known."""
    import diffusers

    from hecompile.frontend.examples import known_models

    config = inner / "config.json"
    if not config.is_file():
        if list(inner.glob("*.onnx")):
            raise CompileError(Diagnostic(f"{folder}: an ONNX model", help=f"give its file, {inner / 'model.onnx'} for example"))
        raise CompileError(
            Diagnostic(f"{folder}: no UNet here", help="a pipeline folder with unet/ or transformer/, or a folder with config.json")
        )
    try:
        name = json.loads(config.read_text()).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise CompileError(f"{config}: not a model's configuration: {error}") from error
    known = [each for each in known_models() if hasattr(diffusers, each)]
    if name not in known:
        raise CompileError(Diagnostic(f"{config}: a {name}", help=f"supported: {', '.join(known)}"))
    kind: type[torch.nn.Module] = getattr(diffusers, name)
    return kind


def _variant(inner: Path, weights: list[Path]) -> str | None:
    """The variant to load, such as `fp16`; None where there are weights without one.

    Raises:
        CompileError: if there are several variants and no plain weights, as nothing says which is meant.
    """
    variants = set()
    for path in weights:
        match = _VARIANT.search(path.name)
        if match is None:
            return None
        variants.add(match.group(1))
    if len(variants) > 1:
        raise CompileError(
            Diagnostic(f"{inner}: weights of the variants {', '.join(sorted(variants))}", help="leave one of them in the folder")
        )
    return variants.pop()


def schedule_of_folder(folder: Path) -> dict[str, object] | None:
    """The scheduler's configuration beside the UNet in a pipeline folder; None without one."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        return {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError):
        return None


def tokens_of_folder(folder: Path) -> int | None:
    """The length to which a pipeline folder's tokenizer fills prompts for its UNet; None where there is none, or no such length."""
    if not (folder / "unet").is_dir():
        return None
    try:
        return usual_tokens(json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text()).get("model_max_length"))
    except (OSError, ValueError, AttributeError):
        return None


def usual_tokens(length: object) -> int | None:
    """A tokenizer's `model_max_length`, where it is one: tokenizers without a limit have an absurd one."""
    return length if isinstance(length, int) and not isinstance(length, bool) and 0 < length <= MOST_TOKENS else None
