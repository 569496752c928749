"""Measures the trained pipeline and writes `quality.json` and the model card: `python -m hecompile.models.shapes.card`."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.models.shapes import FOLDER, GUIDANCE, STEPS, load_pipeline
from hecompile.models.shapes.reader import ATTRIBUTES, shares
from hecompile.models.shapes.scenes import COLOURS, RELATIONS, SHAPES, SIZES, Scene, Split, random_scene
from hecompile.outputs import write_file

__all__ = ["card", "held_out", "measure", "plain_scenes", "sampled"]

CAPTIONS, BATCH, SEED = 200, 50, 4242
WORDS = {"all": "wholly right"}


def held_out(count: int = CAPTIONS) -> list[Scene]:
    """Return scenes that training never saw, half of them with a shape in a colour in which training never showed it."""
    rng = random.Random(SEED)
    splits: tuple[Split, Split] = ("pairs", "captions")
    return [random_scene(rng, splits[place % 2]) for place in range(count)]


def plain_scenes(count: int = CAPTIONS) -> list[Scene]:
    """Return scenes that training never saw and whose caption can be short: large things on white, or on black where one is
    white."""
    rng, scenes = random.Random(SEED + 1), list[Scene]()
    splits: tuple[Split, Split] = ("pairs", "captions")
    while len(scenes) < count:
        split = splits[len(scenes) % 2]
        scene = random_scene(rng, split).plain()
        if scene.split == split and scene.background == scene.unsaid_background:
            scenes.append(scene)
    return scenes


def sampled(
    pipeline: Any, scenes: list[Scene], steps: int = STEPS, guidance: float = GUIDANCE, short: bool = False
) -> list[npt.NDArray[np.uint8]]:
    """Return a picture (32, 32, 3) for each caption, each from a seed of its own. `short` uses the shortest captions."""
    import torch

    pictures: list[npt.NDArray[np.uint8]] = []
    for start in range(0, len(scenes), BATCH):
        captions = [scene.shortest_caption if short else scene.caption for scene in scenes[start : start + BATCH]]
        generators = [torch.Generator().manual_seed(start + place) for place in range(len(captions))]
        settings = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": generators}
        images = pipeline(captions, output_type="np", **settings).images
        pictures.extend((images * 255).round().astype(np.uint8))
    return pictures


def measure() -> dict[str, Any]:
    """Return the figures of the model card: how both checkers rate 200 held-out captions at 4 and 25 steps."""
    from hecompile.models.shapes.classifier import classified_shares

    pipeline, scenes = load_pipeline(), held_out()
    log = (FOLDER / "train.log").read_text().strip().splitlines()
    quality: dict[str, Any] = {
        "parameters": {
            "unet": sum(parameter.numel() for parameter in pipeline.unet.parameters()),
            "text_encoder": sum(parameter.numel() for parameter in pipeline.text_encoder.parameters()),
        },
        "captions": CAPTIONS,
        "guidance": GUIDANCE,
        "train_log": [" ".join(line.split()) for place, line in enumerate(log) if _is_last(place, log)],
        "by_steps": {},
    }
    plain = plain_scenes()
    quality["short"] = shares(plain, sampled(pipeline, plain, short=True))
    for steps in (STEPS, 25):
        pictures = sampled(pipeline, scenes, steps)
        quality["by_steps"][str(steps)] = {
            "reader": shares(scenes, pictures),
            "reader_unseen_pairs": shares(scenes[::2], pictures[::2]),
            "classifier": classified_shares(scenes, pictures),
        }
    return quality


def _is_last(place: int, log: list[str]) -> bool:
    """Return whether a line is the last one of a training, so that the next line counts its steps from the start."""
    return place + 1 == len(log) or int(log[place + 1].split()[1]) < int(log[place].split()[1])


def card(quality: Mapping[str, Any]) -> str:
    """Return the text of the model card for these figures."""
    by_steps = quality["by_steps"]
    columns = [(steps, checker) for steps in by_steps for checker in ("reader", "reader_unseen_pairs", "classifier")]
    named = {"reader": "exact reader", "reader_unseen_pairs": "the same, unseen pairs alone", "classifier": "trained classifier"}
    head = " | ".join(f"{steps} steps, {named[checker]}" for steps, checker in columns)
    rows = "\n".join(
        f"| {'wholly right' if name == 'all' else name} | "
        + " | ".join(f"{by_steps[steps][checker][name]:.1%}" for steps, checker in columns)
        + " |"
        for name in ATTRIBUTES
    )
    count = quality["parameters"]
    return f"""# Shapes

Text-to-image diffusion on drawn scenes: captions such as "a small red circle above a large blue square on a yellow background"
become pictures of 32x32. It is here so that a secret *prompt* can be shown and tested in seconds; it is of no other use.

| | |
|---|---|
| pipeline | stock `StableDiffusionPipeline`; its autoencoder is `Patches`, 4x4 pixels as 48 channels, without weights |
| UNet | `UNet2DConditionModel`, {count["unet"]:,} parameters: one resolution of 8x8, 128 channels, cross-attention in the middle |
| text encoder | `CLIPTextModel`, {count["text_encoder"]:,} parameters, trained with the UNet; 16 tokens, a word is one |
| scenes | one or two things: {", ".join(SHAPES)}; {len(COLOURS)} colours, {len(SIZES)} sizes, {len(RELATIONS)} relations |
| training | `train.py`: v-prediction, Muon and AdamW, averaged weights, two processes of one thread |
| last lines of the log | {", then with short captions ".join(f"`{line}`" for line in quality["train_log"])} |
| sampling | DDIM, 4 steps, guidance {quality["guidance"]} |

## What it gets right

{quality["captions"]} captions that training never saw. Half of them hold a shape that it never saw in that colour (green circle,
purple square, yellow triangle, red cross); of the others only the whole caption is new. The exact reader compares outlines and
knows "no shape"; it errs on no drawn picture. The classifier is a network trained on drawn pictures alone.

| | {head} |
|---|{"---|" * len(columns)}
{rows}

Shape, colour and size are per thing, a missing one counting as wrong; relation is over captions of two things.

Sizes and background may be left away: then things are large, on white, or on black where one of them is white. Of
{quality["captions"]} such captions ("a red circle above a blue square"), half of them with a shape in an unseen colour,
{quality["short"]["all"]:.1%} are wholly right by the exact reader.

Figures are written by `python -m hecompile.models.shapes.card`.
"""


def main() -> None:
    """Measure the pipeline and write both files."""
    quality = measure()
    write_file(FOLDER / "quality.json", (json.dumps(quality, indent=1) + "\n").encode())
    write_file(FOLDER / "README.md", card(quality).encode())


if __name__ == "__main__":
    main()
