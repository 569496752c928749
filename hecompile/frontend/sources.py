"""Everything that can be compiled, and how it is called: every source becomes a `Source`, which the trace pass reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.folders import (
    PICKLED,
    is_json,
    load_folder,
    pickled_weights,
    schedule_of_folder,
    tokens_of_folder,
    usual_tokens,
)
from hecompile.ir.graph import ModelGraph, concrete_shape
from hecompile.ir.shapes import BATCHES
from hecompile.ir.signature import PUBLIC, Keyword, names_of, text_of

if TYPE_CHECKING:
    import torch

    from hecompile.frontend.arguments import ExampleCall
    from hecompile.ir.linear import Array, Pair

__all__ = ["Source", "load_source"]

PATH_KEY = "_name_or_path"  # entry of a configuration with the path of the model, which is private
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Source:
    """A model and one example call with a batch of two. `module` and `call` are None for an ONNX file.

    `inputs` are the call's tensors by keyword (see `hecompile.ir.signature`); for a file they are what the user gave, possibly
    nothing.
    """

    name: str
    module: torch.nn.Module | None
    inputs: Mapping[Keyword, torch.Tensor]
    public: frozenset[str]
    config: Mapping[str, object] = field(default_factory=dict)
    onnx: Path | None = None
    schedule: Mapping[str, object] | None = None  # configuration of the scheduler that the model samples with
    call: ExampleCall | None = None
    remark: str = ""  # which part of the source is compiled, if it holds more: "the unet of StableDiffusionPipeline"


def load_source(
    source: str | Path | torch.nn.Module | object,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    public: Sequence[str] = (),
    size: Pair | None = None,
    tokens: int | None = None,
) -> Source:
    """Load what can be compiled: a diffusers folder, an ONNX file, a module, a diffusers pipeline (its UNet) or a model of the zoo
    by name.

    Args:
        example_inputs: for modules that are not denoisers of diffusers: keyword or positional arguments with a batch of two. For an
            ONNX file: tensors by the names of its inputs, if the model cannot be called with random numbers.
        public: names of inputs that are public besides `timestep` and `time_ids`.
        size: height and width of a denoiser's sample, in entries of the latent; None for the configuration's.
        tokens: length of a denoiser's prompt; None for the length to which the pipeline's tokenizer pads prompts, or 77.

    Raises:
        CompileError: if it is none of these, its weights are pickled or not finite, or it cannot be called without examples.
    """
    import torch

    declared = frozenset({*PUBLIC, *public})
    wanted = _Wanted(example_inputs, declared, size, tokens)
    if isinstance(source, torch.nn.Module):
        return _module(source, "", wanted)
    if not isinstance(source, str | PathLike):
        return _from_pipeline(source, wanted)
    path = Path(source).expanduser()
    if path.suffix == ".onnx":
        if not path.is_file():
            raise CompileError(f"{path}: there is no such file")
        if size is not None or tokens is not None:
            raise CompileError(
                Diagnostic(
                    f"{path}: size and tokens are fixed in an ONNX file", help="export it again with example inputs of that size"
                )
            )
        return Source(path.stem, None, _tensors_of(example_inputs), declared, onnx=path)
    if path.is_dir():
        loaded = _module(load_folder(path), path.resolve().name, wanted.for_prompts_of(tokens_of_folder(path)))
        return replace(loaded, schedule=schedule_of_folder(path))
    if path.suffix in PICKLED:
        raise CompileError(pickled_weights(path))
    if path.exists() or len(path.parts) > 1:
        raise CompileError(
            Diagnostic(
                f"{path}: this is not a model",
                help="give a diffusers folder, an .onnx file or the name of a zoo model; names of a model hub are not fetched: "
                "save the pipeline with save_pretrained(folder)",
            )
        )
    from hecompile.models import load_model, schedule_of, tokens_of

    loaded = _module(load_model(str(source)), str(source), wanted.for_prompts_of(tokens_of(str(source))))
    return replace(loaded, schedule=schedule_of(str(source)))


@dataclass(frozen=True)
class _Wanted:
    """What the user specified for the example call."""

    examples: object
    public: frozenset[str]
    size: Pair | None
    tokens: int | None

    def for_prompts_of(self, tokens: int | None) -> _Wanted:
        """Return the same for a pipeline that pads prompts to so many tokens, unless the user specified a length."""
        return self if self.examples is not None or self.tokens is not None else replace(self, tokens=tokens)


def _from_pipeline(source: object, wanted: _Wanted) -> Source:
    """Return the denoiser of a pipeline; its other parts stay at the client."""
    import torch

    parts = getattr(source, "components", None)
    parts = parts if isinstance(parts, Mapping) else {}
    _check_residuals(type(source).__name__, parts, wanted)
    for name in ("unet", "transformer"):
        part = parts.get(name)
        if isinstance(part, torch.nn.Module):
            kind, scheduler = type(source).__name__, parts.get("scheduler")
            remark = f"the {name} of {kind}"
            LOG.warning("%s: compiling its %s, a %s; its other parts stay at the client", kind, name, type(part).__name__)
            settings = dict(getattr(scheduler, "config", {}))
            schedule = {key: value for key, value in settings.items() if is_json(value) and not key.startswith("_")}
            tokens = usual_tokens(getattr(parts.get("tokenizer"), "model_max_length", None)) if name == "unet" else None
            return replace(_module(part, "", wanted.for_prompts_of(tokens)), remark=remark, schedule=schedule or None)
    raise CompileError(
        Diagnostic(
            f"a {type(source).__name__} is not a model",
            help="give a module, a pipeline with a unet, a diffusers folder, an .onnx file or the name of a zoo model",
        )
    )


def _check_residuals(kind: str, parts: Mapping[str, object], wanted: _Wanted) -> None:
    """Raise `CompileError` for a pipeline that adds another network's residuals to its UNet, unless these are among the
    examples."""
    beside = next((name for name in ("controlnet", "adapter") if parts.get(name) is not None), None)
    if beside is not None and wanted.examples is None:
        residuals = "down_block_additional_residuals=(...), mid_block_additional_residual=..."
        residuals = residuals if beside == "controlnet" else "down_intrablock_additional_residuals=[...]"
        raise CompileError(
            Diagnostic(
                f"{kind} adds the residuals of its {beside} to the unet, whose shapes are not known",
                help=f"pass example_inputs=dict(sample=..., timestep=..., encoder_hidden_states=..., {residuals})",
            )
        )


def _tensors_of(examples: object) -> dict[Keyword, torch.Tensor]:
    """Return examples of an ONNX file's inputs by keyword."""
    import torch

    if examples is None:
        return {}
    if not isinstance(examples, Mapping):
        raise CompileError(Diagnostic("example inputs of an ONNX file need names", help="pass a dictionary of tensors"))
    return {(str(name),): torch.as_tensor(value) for name, value in examples.items()}


def _module(module: torch.nn.Module, name: str, wanted: _Wanted) -> Source:
    """Return a module with its example call. The module is put into evaluation mode."""
    import torch

    from hecompile.frontend.arguments import example_call
    from hecompile.frontend.examples import example_arguments
    from hecompile.frontend.export.wrappers import refuse_untraceable, unwrapped

    module = unwrapped(module).eval()
    refuse_untraceable(module)
    broken = [
        Diagnostic(f"weights of {key} are not finite", help="repair the checkpoint")
        for key, value in module.state_dict().items()
        if value.is_floating_point() and value.device.type != "meta" and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise CompileError(broken)
    kind, examples = type(module).__name__, wanted.examples
    if examples is None:
        examples = example_arguments(module, wanted.size, wanted.tokens)
        if examples is None:
            raise CompileError(
                Diagnostic(
                    f"{kind}: it is not known how this module is called",
                    help="pass example_inputs=dict(...) with its arguments by name; tensors need a batch of two as first dimension",
                )
            )
    elif wanted.size is not None or wanted.tokens is not None:
        raise CompileError(
            Diagnostic("size and tokens cannot be combined with example inputs", help="give example inputs of that size, or none")
        )
    call = example_call(module, examples)
    return Source(name or kind, module, call.inputs, wanted.public, _config(module), call=call)


def _config(module: torch.nn.Module) -> dict[str, object]:
    """Return the module's own configuration, as far as it can be written as JSON."""
    config = getattr(module, "config", {})
    entries = config if isinstance(config, Mapping) else config.to_dict() if hasattr(config, "to_dict") else {}
    kept: dict[str, object] = {str(key): value for key, value in entries.items() if is_json(value) and key != PATH_KEY}
    kept.setdefault("_class_name", type(module).__name__)
    projections = getattr(getattr(module, "encoder_hid_proj", None), "image_projection_layers", None)
    if projections is not None:  # pipelines ask for these with IP-Adapters
        kept["image_projections"] = [type(layer).__name__ for layer in projections]
    return kept


def check_declared(source: Source, graph: ModelGraph) -> None:
    """Raise `CompileError` for a name declared public that no input has."""
    known = {name for spec in graph.inputs for name in names_of(spec.keyword)}
    wrong = sorted(source.public - known - set(PUBLIC))
    if wrong:
        raise CompileError(
            Diagnostic(f"there is no input '{wrong[0]}' to declare public", help=f"known: {', '.join(sorted(known))}")
        )


def examples_for(source: Source, graph: ModelGraph) -> dict[Keyword, Array]:
    """Return the example call as arrays of the graph's types, by keyword; for an ONNX file what the user gave of it.

    Raises:
        CompileError: for examples that are not inputs, or whose shape is not that of a batch of two.
    """
    specs = {spec.keyword: spec for spec in graph.inputs}
    arrays: dict[Keyword, Array] = {}
    for keyword, tensor in source.inputs.items():
        if tensor.is_meta:
            continue
        if keyword not in specs:
            known = ", ".join(text_of(known_keyword) for known_keyword in specs)
            raise CompileError(Diagnostic(f"there is no input '{text_of(keyword)}'", help=f"known: {known}"))
        spec = specs[keyword]
        array = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy().astype(spec.dtype)
        shape = concrete_shape(spec.shape, BATCHES[0])
        if array.shape != shape:
            if array.size != 1 or shape:
                raise CompileError(f"example input '{text_of(keyword)}' has shape {array.shape}, but the model needs {shape}")
            array = array.reshape(())
        arrays[keyword] = array
    return arrays
