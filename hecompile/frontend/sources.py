"""What can be compiled, and how to call it: every source becomes a `Source` that the trace pass reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic

if TYPE_CHECKING:
    import torch

__all__ = ["PUBLIC", "Source", "load_source"]

PUBLIC = ("timestep", "time_ids")  # inputs that say nothing of the picture; SDXL's time_ids are sizes and crops
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_UNETS = ("UNet2DModel", "UNet2DConditionModel")
BATCH = 2  # of the example inputs


@dataclass(frozen=True, eq=False)
class Source:
    """A model and one example call. `module` is None for an ONNX file.

    `inputs` maps how a caller passes a tensor (`("sample",)`, `("added_cond_kwargs", "text_embeds")`) to an example with a batch
    of two.
    """

    name: str
    module: torch.nn.Module | None
    inputs: Mapping[tuple[str, ...], torch.Tensor]
    public: frozenset[str]
    config: Mapping[str, object] = field(default_factory=dict)
    onnx: Path | None = None
    schedule: Mapping[str, object] | None = None  # of the scheduler that the model samples with


def load_source(
    source: str | Path | torch.nn.Module,
    example_inputs: Mapping[str, Any] | Sequence[torch.Tensor] | None = None,
    public: Sequence[str] = (),
) -> Source:
    """A diffusers folder, an ONNX file, a module or the name of a zoo model.

    Args:
        example_inputs: for modules that are not UNets of diffusers: keyword arguments, or positional ones, with a batch of two.
        public: inputs to declare public besides `timestep` and `time_ids`.

    Raises:
        CompileError: if it is none of these, its weights are pickled or not finite, or it cannot be called without examples.
    """
    import torch

    declared = frozenset({*PUBLIC, *public})
    if isinstance(source, torch.nn.Module):
        return _module(source, type(source).__name__, example_inputs, declared)
    path = Path(source)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise CompileError(f"{path}: no such file")
        return Source(path.stem, None, {}, declared, onnx=path)
    if path.is_dir():
        found = _module(_from_folder(path), path.resolve().name, example_inputs, declared)
        return replace(found, schedule=_schedule(path))
    if path.suffix in _PICKLED:
        raise CompileError(_pickled(path))
    if path.exists() or len(path.parts) > 1:
        raise CompileError(
            Diagnostic(f"{path}: not a model", help="give a diffusers folder, an .onnx file or the name of a zoo model")
        )
    from hecompile.models import load_model, schedule_of

    found = _module(load_model(str(source)), str(source), example_inputs, declared)
    return replace(found, schedule=schedule_of(str(source)))


def _pickled(path: Path) -> Diagnostic:
    return Diagnostic(
        f"{path}: pickled weights are refused, loading them can run any code",
        help="save the model again with save_pretrained(folder, safe_serialization=True)",
    )


def _from_folder(folder: Path) -> torch.nn.Module:
    """The UNet of a pipeline folder, or of its own folder."""
    import diffusers

    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    config = inner / "config.json"
    if not config.is_file():
        raise CompileError(Diagnostic(f"{folder}: no UNet here", help="a pipeline folder with unet/, or a folder with config.json"))
    try:
        kind = json.loads(config.read_text()).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise CompileError(f"{config}: not a model's configuration: {error}") from error
    if kind not in _UNETS:
        raise CompileError(Diagnostic(f"{config}: a {kind}", help=f"supported: {', '.join(_UNETS)}"))
    weights = sorted(inner.glob("*.safetensors"))
    if not weights:
        pickled = [path for path in sorted(inner.iterdir()) if path.suffix in _PICKLED]
        raise CompileError(_pickled(pickled[0]) if pickled else f"{inner}: no safetensors weights")
    try:
        return getattr(diffusers, kind).from_pretrained(inner, use_safetensors=True, local_files_only=True)  # type: ignore[no-any-return]
    except Exception as error:  # diffusers raises many kinds; all mean that the folder is broken
        raise CompileError(f"{inner}: diffusers cannot load it: {error}") from error


def _schedule(folder: Path) -> dict[str, object] | None:
    """The scheduler's configuration beside the UNet in a pipeline folder; None without one."""
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        return {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("_")}
    except (OSError, ValueError, AttributeError):
        return None


def _module(module: torch.nn.Module, name: str, examples: object, public: frozenset[str]) -> Source:
    import torch

    module = module.eval()
    broken = [
        Diagnostic(f"weights of {key} are not finite", help="repair the checkpoint")
        for key, value in module.state_dict().items()
        if value.is_floating_point() and value.device.type != "meta" and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise CompileError(broken)
    config = {key: value for key, value in dict(getattr(module, "config", {})).items() if _is_json(value)}
    config.setdefault("_class_name", type(module).__name__)
    if examples is None:
        if type(module).__name__ not in _UNETS:
            raise CompileError(
                Diagnostic(
                    f"{type(module).__name__}: cannot guess how it is called",
                    help="pass example_inputs=dict(sample=..., timestep=...), with a batch of two",
                )
            )
        from hecompile.frontend.examples import unet_inputs

        inputs = unet_inputs(module)
    else:
        inputs = _flatten(module, examples)
    return Source(name, module, inputs, public, config)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _flatten(module: torch.nn.Module, examples: object) -> dict[tuple[str, ...], torch.Tensor]:
    """Examples as the user gave them, by keyword path."""
    import inspect

    import torch

    if not isinstance(examples, Mapping):
        names = list(inspect.signature(module.forward).parameters)
        values = list(examples) if isinstance(examples, Sequence) else [examples]
        if len(values) > len(names):
            raise CompileError(f"{len(values)} example inputs, but {type(module).__name__} takes {len(names)}: {', '.join(names)}")
        examples = dict(zip(names, values, strict=False))
    flat: dict[tuple[str, ...], torch.Tensor] = {}
    for key, value in examples.items():
        if isinstance(value, Mapping):
            flat.update({(key, inner): tensor for inner, tensor in value.items()})
        elif isinstance(value, torch.Tensor):
            flat[(key,)] = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[(key,)] = torch.tensor(float(value))
        else:
            raise CompileError(f"example input '{key}' is a {type(value).__name__}, not a tensor")
    if not any(tensor.dim() and tensor.shape[0] == BATCH for tensor in flat.values()):
        raise CompileError(
            Diagnostic("no example input has a batch of two in front", help="that is how the batch is told from other dimensions")
        )
    return flat
