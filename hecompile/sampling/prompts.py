"""Draws pictures of prompts with a compiled UNet in its own pipeline, as `hecompile sample DIR "..."` does.

Text encoder, tokenizer, autoencoder and scheduler run at the client: of a prompt, the server gets only ciphertexts of its
embedding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.artifact import Manifest, read_manifest
from hecompile.errors import CompileError, Diagnostic, needing
from hecompile.models.quiet import quietly
from hecompile.outputs import write_file
from hecompile.sampling.models import figures, noise_options, opened_model
from hecompile.sampling.pictures import check_picture, encoded, picture_row

if TYPE_CHECKING:
    from hecompile.runtime.transports import AccessOptions, Transport

__all__ = ["PromptRequest", "draw_prompts"]

INDEX = "model_index.json"  # file by which a folder is a pipeline that diffusers saved
STEPS = 25
LEAST_PIXELS = 256  # smaller pictures are enlarged to this height in the file


@dataclass(frozen=True)
class PromptRequest:
    """What to draw: one picture per prompt, and how. None leaves a setting to the pipeline."""

    prompts: tuple[str, ...]
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class _Folders:
    """The folders of the UNet's artifact and of the pipeline around it; None stands for the zoo's own pipeline of `shapes`."""

    artifact: Path
    pipeline: Path | None


def draw_prompts(
    source: Path, server: str | Transport | None, request: PromptRequest, output: Path, pipeline: Path | None = None,
    policy: str = "strict", progress: bool = True, simulate: bool = False, access: AccessOptions | None = None,
) -> dict[str, object]:  # fmt: skip
    """Draw one picture per prompt, write them side by side to `output`, and return what was measured.

    Args:
        source: an artifact, or the folder of a saved pipeline whose `unet` is an encrypted one.
        request: what to draw; seeds count up from `request.seed`, 0 by default.
        pipeline: folder of the pipeline that the artifact's UNet belongs to; by default that of the zoo's model.

    Raises:
        CompileError: if the model accepts no prompts, or there is no pipeline for it.
        InputError: if the pipeline's parts do not fit the model.
        ProtocolError: if the artifact is damaged, or the server refuses.
    """
    check_picture(output, "RGB")
    folders, manifest = _folders(source, pipeline)
    with opened_model(folders.artifact, server, policy, request.seed, simulate, access) as unet:
        pipe, defaults = _pipeline(folders.pipeline, unet)
        pipe.set_progress_bar_config(disable=not progress)
        settings = defaults | {
            name: value
            for name, value in (("num_inference_steps", request.steps), ("guidance_scale", request.guidance))
            if value is not None
        }
        if request.negative is not None:
            settings["negative_prompt"] = [request.negative] * len(request.prompts)
        started = time.perf_counter()
        with unet.run():  # prompts are sent once
            drawn = pipe(
                list(request.prompts), output_type="np", **_size(manifest, pipe),
                **noise_options(unet, len(request.prompts), request.seed), **settings,
            )  # fmt: skip
        wall_s = time.perf_counter() - started
        scale = max(1, -(-LEAST_PIXELS // drawn.images.shape[1]))
        write_file(output, encoded(picture_row(drawn.images, scale), output.suffix))
        return figures(
            unet, output, simulate, wall_s,
            prompts=list(request.prompts), steps=settings["num_inference_steps"], guidance=settings.get("guidance_scale"),
            seed=request.seed,
        )  # fmt: skip


def _folders(source: Path, pipeline: Path | None) -> tuple[_Folders, Manifest]:
    """Return the folders of the artifact and of its pipeline, and the artifact's manifest. Raises `CompileError` or `ProtocolError`
    unless the artifact's UNet accepts prompts and there is a pipeline for it."""
    saved = (source / INDEX).is_file()
    artifact = source / "unet" if saved else source
    if saved and not (artifact / "manifest.json").is_file():
        raise CompileError(
            Diagnostic(
                f"{source}: the unet of this pipeline is not encrypted",
                help="save the pipeline after setting pipe.unet = hecompile.load(...)",
            )
        )
    manifest = read_manifest(artifact)
    if not any(spec.keyword == ("encoder_hidden_states",) for spec in manifest.inputs):
        labels = isinstance(manifest.config.get("num_class_embeds"), int)
        advice = "name a class: --label 7" if labels else "leave the prompt out"
        raise CompileError(Diagnostic(f"{source} accepts no prompts", help=advice))
    if pipeline is not None and not (pipeline / INDEX).is_file():
        raise CompileError(
            Diagnostic(f"{pipeline} is not the folder of a pipeline", help=f"name a folder with a {INDEX}, as diffusers saves it")
        )
    if saved:
        return _Folders(artifact, pipeline or source), manifest
    if pipeline is None and manifest.name != "shapes":
        raise CompileError(
            Diagnostic(
                f"{source} holds only a UNet; text encoder, autoencoder and scheduler are in the folder of its pipeline",
                help="name that folder: --pipeline FOLDER",
            )
        )
    return _Folders(artifact, pipeline), manifest


def _pipeline(folder: Path | None, unet: Any) -> tuple[Any, dict[str, Any]]:
    """Return the pipeline with the encrypted UNet in it, and its default steps and guidance."""
    with needing("sampling from prompts", "models"), quietly():
        from diffusers import DiffusionPipeline

        from hecompile.models import shapes
        from hecompile.models.shapes import patches  # noqa: F401 - its pipeline's index names it, and diffusers does not import it

        if folder is None:
            return shapes.load_pipeline(unet=unet), {"num_inference_steps": shapes.STEPS, "guidance_scale": shapes.GUIDANCE}
        try:
            pipe = DiffusionPipeline.from_pretrained(str(folder), unet=unet, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, TypeError) as error:
            raise CompileError(
                Diagnostic(
                    f"diffusers cannot load the pipeline of {folder}: {error}", help="name another folder: --pipeline FOLDER"
                )
            ) from error
    return pipe, {"num_inference_steps": STEPS}


def _size(manifest: Manifest, pipe: Any) -> dict[str, int]:
    """Return height and width in pixels of the pictures that the UNet was compiled for, which can differ from its configuration."""
    sample = next(spec for spec in manifest.inputs if spec.name == "sample")
    height, width = (int(size) * pipe.vae_scale_factor for size in sample.shape[2:])
    return {"height": height, "width": width}
