"""Drawing from prompts: a compiled UNet within the stock pipeline that it belongs to, as `hecompile sample DIR "..."` does.

Text encoder, tokenizer, autoencoder and scheduler are the client's own and run here: of a prompt, the server gets
ciphertexts of its embedding and nothing else.
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
from hecompile.sampling.pictures import encoded, judge_picture, picture_row

if TYPE_CHECKING:
    from hecompile.runtime.transports import AccessOptions, Transport

__all__ = ["Wishes", "draw_prompts"]

INDEX = "model_index.json"  # of a pipeline that diffusers saved
STEPS = 25
LEAST_PIXELS = 256  # height of a picture in the file, so that small ones can be looked at


@dataclass(frozen=True)
class Wishes:
    """What is to be drawn: prompts, one a picture, and how. None: as the pipeline has it."""

    prompts: tuple[str, ...]
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class _Place:
    """Where the parts are: the artifact of the UNet, and the folder of the stock pipeline; None: that of the zoo's `shapes`."""

    artifact: Path
    pipeline: Path | None


def draw_prompts(
    source: Path, server: str | Transport | None, wishes: Wishes, output: Path, pipeline: Path | None = None,
    policy: str = "strict", progress: bool = True, simulate: bool = False, access: AccessOptions | None = None,
) -> dict[str, object]:  # fmt: skip
    """Draw one picture per prompt and write them side by side; what was measured. Seeds count up from `wishes.seed`, 0 by default.

    Args:
        source: an artifact, or the folder of a saved pipeline whose `unet` is an encrypted one.
        pipeline: folder of the stock pipeline that the artifact's UNet belongs to; by default that of the zoo's model.

    Raises:
        CompileError: if the model takes no prompts, or there is no pipeline for it.
        InputError: if the pipeline's parts do not fit the model.
        ProtocolError: if the artifact or the server is not in order.
    """
    judge_picture(output, "RGB")
    place, manifest = _place(source, pipeline)
    with opened_model(place.artifact, server, policy, wishes.seed, simulate, access) as unet:
        pipe, defaults = _pipeline(place.pipeline, unet)
        pipe.set_progress_bar_config(disable=not progress)
        settings = defaults | {
            name: value
            for name, value in (("num_inference_steps", wishes.steps), ("guidance_scale", wishes.guidance))
            if value is not None
        }
        if wishes.negative is not None:
            settings["negative_prompt"] = [wishes.negative] * len(wishes.prompts)
        started = time.perf_counter()
        with unet.run():  # prompts are sent once
            drawn = pipe(
                list(wishes.prompts), output_type="np", **_size(manifest, pipe),
                **noise_options(unet, len(wishes.prompts), wishes.seed), **settings,
            )  # fmt: skip
        wall_s = time.perf_counter() - started
        scale = max(1, -(-LEAST_PIXELS // drawn.images.shape[1]))
        write_file(output, encoded(picture_row(drawn.images, scale), output.suffix))
        return figures(
            unet, output, simulate, wall_s,
            prompts=list(wishes.prompts), steps=settings["num_inference_steps"], guidance=settings.get("guidance_scale"),
            seed=wishes.seed,
        )  # fmt: skip


def _place(source: Path, pipeline: Path | None) -> tuple[_Place, Manifest]:
    """Raises `CompileError` or `ProtocolError` unless there are an artifact of a UNet that takes prompts, and a pipeline for it."""
    saved = (source / INDEX).is_file()
    artifact = source / "unet" if saved else source
    if saved and not (artifact / "manifest.json").is_file():
        raise CompileError(
            Diagnostic(f"{source}: its unet is not encrypted", help="save the pipeline with pipe.unet = hecompile.load(...)")
        )
    manifest = read_manifest(artifact)
    if not any(spec.keyword == ("encoder_hidden_states",) for spec in manifest.inputs):
        labels = isinstance(manifest.config.get("num_class_embeds"), int)
        way_out = "name a class: --label 7" if labels else "leave the prompt away"
        raise CompileError(Diagnostic(f"{source} takes no prompts", help=way_out))
    if pipeline is not None and not (pipeline / INDEX).is_file():
        raise CompileError(
            Diagnostic(f"{pipeline} is no folder of a pipeline", help=f"name one with a {INDEX}, as diffusers saves it")
        )
    if saved:
        return _Place(artifact, pipeline or source), manifest
    if pipeline is None and manifest.name != "shapes":
        raise CompileError(
            Diagnostic(
                f"{source} is a UNet alone: text encoder, autoencoder and scheduler are in its pipeline's folder",
                help="name that folder: --pipeline FOLDER",
            )
        )
    return _Place(artifact, pipeline), manifest


def _pipeline(folder: Path | None, unet: Any) -> tuple[Any, dict[str, Any]]:
    """The stock pipeline around the encrypted UNet, and its steps and guidance where nothing else is said."""
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
    """Height and width in pixels of what the UNet was compiled for, which need not be its configuration's."""
    sample = next(spec for spec in manifest.inputs if spec.name == "sample")
    height, width = (int(size) * pipe.vae_scale_factor for size in sample.shape[2:])
    return {"height": height, "width": width}
