"""A second checker of pictures, which was trained: a small convolutional network that recognises what is in a scene.

Unlike `reader` it always names a shape, so it is less strict. The first thing is the one on the left or at the top. It is trained
on drawn pictures of all splits, blurred and with noise, and never sees a sampled one: `python -m
hecompile.models.shapes.classifier`, three minutes on one thread.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from safetensors.torch import load_file, save

from hecompile.models.shapes import FOLDER
from hecompile.models.shapes.reader import ATTRIBUTES
from hecompile.models.shapes.scenes import COLOURS, SHAPES, SIZES, Picture, Scene, Split, drawn, random_scene
from hecompile.outputs import write_file

__all__ = ["Classifier", "classified_shares", "load_classifier", "train"]

LOG = logging.getLogger(__name__)
WEIGHTS = FOLDER / "classifier.safetensors"
BATCH, STEPS, LEARNING_RATE, SEED = 64, 3000, 2e-3, 5
SPLITS: tuple[Split, ...] = get_args(Split)
NOISE = 0.08  # noise on pixels between -1 and 1 during training, since sampled pictures are slightly grainy
NOTHING = -100  # label of an attribute that a scene does not have, which cross-entropy ignores

_NAMES = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES)}
_HEADS = {"background": len(COLOURS), "count": 2, "axis": 2} | {
    f"{name} {place}": len(names) for place in (0, 1) for name, names in _NAMES.items()
}


class Classifier(torch.nn.Module):
    """Turns pictures (B, 3, 32, 32) in [-1, 1] into logits by name: background, count, axis, and each thing's attributes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for inward, outward, stride in ((3, 24, 1), (24, 48, 2), (48, 64, 2), (64, 64, 1)):
            layers += [torch.nn.Conv2d(inward, outward, 3, stride, 1), torch.nn.BatchNorm2d(outward), torch.nn.ReLU()]
        self.body = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * 8 * 8, 128), torch.nn.ReLU())
        self.heads = torch.nn.Linear(128, sum(_HEADS.values()))

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.heads(self.body(pictures)).split(list(_HEADS.values()), dim=1)
        return dict(zip(_HEADS, logits, strict=True))


def _labels(scene: Scene) -> dict[str, int]:
    """Return the labels that the classifier should give a scene."""
    things = scene.things if scene.relation in (None, "above", "left of") else scene.things[::-1]
    labels = dict.fromkeys(_HEADS, NOTHING) | {"background": list(COLOURS).index(scene.background), "count": len(things) - 1}
    if scene.relation is not None:
        labels["axis"] = int(scene.relation in ("above", "below"))
    for place, thing in enumerate(things):
        labels |= {f"{name} {place}": names.index(getattr(thing, name)) for name, names in _NAMES.items()}
    return labels


def _as_batch(pictures: Sequence[Picture]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(steps: int = STEPS) -> Classifier:
    """Train the classifier and return it in evaluation mode. On one thread the result is always the same."""
    torch.manual_seed(SEED)
    rng, model = random.Random(SEED), Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        scenes = [random_scene(rng, rng.choice(SPLITS)) for _ in range(BATCH)]
        clean = _as_batch([drawn(scene, rng) for scene in scenes])
        if rng.random() < 0.5:
            clean = torch.nn.functional.avg_pool2d(clean, 3, 1, 1, count_include_pad=False)
        logits = model(clean + NOISE * rng.random() * torch.randn_like(clean))
        labels = [_labels(scene) for scene in scenes]
        loss = torch.stack(
            [torch.nn.functional.cross_entropy(logits[name], torch.tensor([label[name] for label in labels])) for name in _HEADS]
        ).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        if step % 500 == 0:
            LOG.info("step %4d  loss %.4f", step, float(loss.detach()))
    return model.eval()


def load_classifier() -> Classifier:
    """Return the trained classifier."""
    model = Classifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()


@torch.no_grad()
def classified_shares(scenes: Sequence[Scene], pictures: Sequence[Picture]) -> dict[str, float]:
    """Return, for the attributes of `reader`, the share of pictures in which the classifier sees what the scene has."""
    said = {name: logits.argmax(dim=1).tolist() for name, logits in load_classifier()(_as_batch(pictures)).items()}
    rows = []
    for place, scene in enumerate(scenes):
        right = {name: float(said[name][place] == label) for name, label in _labels(scene).items() if label != NOTHING}
        row = {"background": right["background"], "count": right["count"]}
        row |= {name: float(np.mean([value for head, value in right.items() if head.startswith(name)])) for name in _NAMES}
        row |= {"relation": right["axis"]} if scene.relation is not None else {}
        rows.append(row | {"all": float(all(share == 1 for share in row.values()))})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in ATTRIBUTES}


def main() -> None:
    """Train the classifier and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    torch.set_num_threads(1)
    model = train(arguments.steps)
    write_file(WEIGHTS, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))


if __name__ == "__main__":
    main()
