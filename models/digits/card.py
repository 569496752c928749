"""Measures the trained digits model and writes `quality.json` and the model card: `python -m hecompile.models.digits.card`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hecompile.models.digits import CLASSES, FOLDER, SCHEDULER, load
from hecompile.outputs import write_file

__all__ = ["card", "measure"]

SAMPLES, STEPS = 200, 10


def measure() -> dict[str, Any]:
    """Return the figures of the model card, measured on 20 samples per class in ten DDIM steps, each with a seed of its own."""
    import torch
    from diffusers import DDIMScheduler

    from hecompile.models.digits.classifier import holdout_accuracy, recognised_share
    from hecompile.models.digits.pipeline import ClassConditionalPipeline

    unet = load()
    labels = [place % CLASSES for place in range(SAMPLES)]
    pipeline = ClassConditionalPipeline(unet, DDIMScheduler(**SCHEDULER))
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(place) for place in range(SAMPLES)]
    images = pipeline(labels, STEPS, generators, output_type="np").images
    return {
        "parameters": sum(parameter.numel() for parameter in unet.parameters()),
        "samples": SAMPLES,
        "steps": STEPS,
        "recognised_share": recognised_share(images, labels),
        "classifier_holdout_accuracy": holdout_accuracy(),
        "train_log": (FOLDER / "train.log").read_text().strip().splitlines()[-1].strip(),
    }


def card(quality: Mapping[str, Any]) -> str:
    """Return the text of the model card for these figures."""
    return f"""# Digits

A class-conditional `UNet2DModel` of diffusers on scikit-learn's 8x8 digits (1797 pictures of handwritten digits, public domain
through the UCI repository). It is here so that encrypted sampling can be shown and tested in seconds; it is of no other use.

| | |
|---|---|
| parameters | {quality["parameters"]:,} |
| architecture | 16 and 32 channels, two resolutions, no attention; labels by embedding |
| training | `train.py`: AdamW 2e-3, cosine decay, EMA, squaredcos_cap_v2, 4000 steps of 128, one thread |
| last line of the log | `{quality["train_log"]}` |
| recognised as their class | {quality["recognised_share"]:.1%} of {quality["samples"]} samples at {quality["steps"]} DDIM steps |
| recognised by | a support vector machine, {quality["classifier_holdout_accuracy"]:.1%} right on real digits it has not seen |

`unconditional.safetensors` is a smaller model without labels (8 and 16 channels, 1500 steps), for the pipelines of diffusers that
take none. Both are trained with everything that the data set holds; their samples may resemble training pictures.
Figures are written by `python -m hecompile.models.digits.card`.
"""


def main() -> None:
    """Measure the model and write both files."""
    quality = measure()
    write_file(FOLDER / "quality.json", (json.dumps(quality, indent=1) + "\n").encode())
    write_file(FOLDER / "README.md", card(quality).encode())


if __name__ == "__main__":
    main()
