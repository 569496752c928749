"""Draws pictures of classes with a compiled class-conditional model, as `hecompile sample --label` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic, needing
from hecompile.outputs import write_file
from hecompile.sampling.models import figures, noise_options, opened_model
from hecompile.sampling.pictures import check_picture, encoded, picture_row

if TYPE_CHECKING:
    from hecompile.runtime.transports import AccessOptions

__all__ = ["draw_labels"]


def draw_labels(
    artifact: Path, server: str | None, labels: Sequence[int], steps: int, seed: int | None, scheduler: str, policy: str,
    output: Path, progress: bool = True, simulate: bool = False, access: AccessOptions | None = None,
) -> dict[str, object]:  # fmt: skip
    """Draw one picture per label, write them side by side to `output`, and return what was measured.

    Args:
        seed: seed of the first picture, 0 by default; every further picture has the next seed.
        simulate: encrypts nothing: regions are computed here with the noise that their library models.
        access: certificates and credentials, as for `load`.

    Raises:
        CompileError: if the model accepts no labels, a label is out of range, or a seed is given for an artifact that reveals
            values.
        ProtocolError: if the artifact is damaged, or the server refuses.
    """
    check_picture(output)
    with opened_model(artifact, server, policy, seed, simulate, access) as unet:
        classes = unet.config.get("num_class_embeds")
        if not isinstance(classes, int):
            raise CompileError(
                Diagnostic(
                    f"{artifact} accepts no labels", help='give a prompt: hecompile sample DIR "..."; or set pipe.unet in Python'
                )
            )
        wrong = [label for label in labels if not 0 <= label < classes]
        if wrong:
            raise CompileError(f"there are no labels {', '.join(map(str, wrong))}: the model has classes 0 to {classes - 1}")
        with needing("sampling", "client"):
            from hecompile.models.digits import SCHEDULER
            from hecompile.models.digits.pipeline import ClassConditionalPipeline
            from hecompile.models.digits.schedulers import make_scheduler

        pipeline = ClassConditionalPipeline(unet, make_scheduler(scheduler, dict(SCHEDULER)))
        pipeline.set_progress_bar_config(disable=not progress)
        started = time.perf_counter()
        images = pipeline(labels, steps, output_type="np", **noise_options(unet, len(labels), seed)).images
        wall_s = time.perf_counter() - started
        write_file(output, encoded(picture_row(images), output.suffix))
        return figures(unet, output, simulate, wall_s, labels=list(labels), steps=steps, seed=seed)
