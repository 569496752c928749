"""Trains the digits models: `python -m hecompile.models.digits.train`, and again with `--unconditional`.

AdamW at 2e-3 with cosine decay, an exponential moving average of the weights, squaredcos_cap_v2 noise. It takes about seven minutes
on one thread, and writes the weights and the log beside this file.
"""

from __future__ import annotations

import argparse
import logging
import time
from copy import deepcopy

import numpy as np
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save
from sklearn.datasets import load_digits

from hecompile.models.digits import FOLDER, SCHEDULER, build
from hecompile.outputs import write_file

__all__ = ["train"]

LOG = logging.getLogger(__name__)
BATCH, LEARNING_RATE, EMA, SEED = 128, 2e-3, 0.999, 0


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all 1797 digits, (n, 1, 8, 8) in [-1, 1], and their labels (n)."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    return images, torch.tensor(digits.target, dtype=torch.long)


def train(conditional: bool, steps: int) -> torch.nn.Module:
    """Train for `steps` batches and return the model with averaged weights. On one thread the result is always the same."""
    torch.manual_seed(SEED)
    images, labels = data()
    unet = build(conditional).train()
    average = deepcopy(unet)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scheduler = DDIMScheduler(**SCHEDULER)
    started, losses = time.perf_counter(), []
    for step in range(1, steps + 1):
        picked = torch.randint(len(images), (BATCH,))
        clean, noise = images[picked], torch.randn(BATCH, 1, 8, 8)
        t = torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        noisy = scheduler.add_noise(clean, noise, t)
        condition = {"class_labels": labels[picked]} if conditional else {}
        loss = torch.nn.functional.mse_loss(unet(noisy, t, **condition).sample, noise)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        weight = min(EMA, (1 + step) / (10 + step))  # average over few steps at first, while the weights still change much
        with torch.no_grad():
            for kept, new in zip(average.parameters(), unet.parameters(), strict=True):
                kept.lerp_(new, 1 - weight)
        losses.append(float(loss.detach()))
        if step % 200 == 0:
            LOG.info("step %5d  loss %.4f  %4.0f s", step, np.mean(losses[-200:]), time.perf_counter() - started)
    trained: torch.nn.Module = average.eval()
    return trained


def main() -> None:
    """Train one of the two models and write its weights and log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unconditional", action="store_true")
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    name = "unconditional" if arguments.unconditional else "model"
    log = FOLDER / ("unconditional.log" if arguments.unconditional else "train.log")
    logging.basicConfig(filename=log, filemode="w", format="%(message)s", level=logging.INFO)
    torch.set_num_threads(1)
    unet = train(not arguments.unconditional, arguments.steps or (1500 if arguments.unconditional else 4000))
    write_file(FOLDER / f"{name}.safetensors", save({key: value.contiguous() for key, value in unet.state_dict().items()}))


if __name__ == "__main__":
    main()
