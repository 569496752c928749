"""Trains the model of scenes: `python -m hecompile.models.shapes.train`. Two processes of one thread each take about 75 minutes.

The weights in the repository come from two trainings: the first, of 18,000 steps, used full captions only; the second continued for
2,400 steps (`--further --steps 2400`) with captions that leave out default values. Every training now uses both kinds.

Pictures are drawn as they are needed. Noisy timesteps are drawn more often, since there the text matters most. Matrices and
convolutions of hidden layers are trained by Muon (Jordan et al., 2024), everything else by AdamW; weights are averaged over steps.
The pipeline's folder and the log are written beside this file. Processes add gradients in no fixed order, so two trainings agree in
quality, not bit for bit.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
import torch.distributed
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hecompile.models.shapes import (
    FOLDER,
    PIPELINE,
    SCHEDULER,
    TOKENS,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    load_pipeline,
)
from hecompile.models.shapes.patches import Patches
from hecompile.models.shapes.scenes import drawn, random_scene

__all__ = ["Denoiser", "save", "train"]

LOG = logging.getLogger(__name__)
BATCH, PROCESSES = 16, 2  # the batch is that of one process
ADAMW_RATE, MUON_RATE, WEIGHT_DECAY, EMA = 2e-3, 0.02, 0.01, 0.998
WARM_UP, LAST_RATE, FURTHER_RATE = (
    0.02,
    0.02,
    0.3,
)  # WARM_UP is a share of the steps, the others are shares of the full learning rate
PLAIN = 0.35  # share of scenes that get default values, so that short captions are frequent
UNCONDITIONAL = 0.1  # share of empty captions, which guidance needs
TOWARD_NOISE = 0.6  # timesteps are 1000 u^0.6 for u uniform in [0, 1)


class Denoiser(torch.nn.Module):
    """Text encoder and UNet as one network: latents (B, 48, 8, 8), timesteps (B) and tokens (B, 16) give v (B, 48, 8, 8)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text_encoder = build_text_encoder(vocabulary)

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        prompt = self.text_encoder(tokens).last_hidden_state
        prediction: torch.Tensor = self.unet(noisy, timesteps, encoder_hidden_states=prompt).sample
        return prediction


def optimizers(model: torch.nn.Module) -> tuple[list[torch.optim.Optimizer], list[tuple[torch.nn.Parameter, torch.nn.Parameter]]]:
    """Return AdamW and Muon; and for each parameter that Muon trains, the parameter and the matrix in the same memory that Muon
    sees."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        outer = any(part in name for part in ("conv_in", "conv_out", "embedding"))
        if parameter.ndim < 2 or outer:
            others.append(parameter)
        else:
            matrices.append((parameter, torch.nn.Parameter(_as_matrix(parameter.detach()))))
    return [
        torch.optim.AdamW(others, lr=ADAMW_RATE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY),
        torch.optim.Muon([matrix for _, matrix in matrices], lr=MUON_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY),
    ], matrices


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Return (O, I, H, W) in channels-last memory as (O, H * W * I) of the same memory; a matrix is returned unchanged."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def batches(seed: int, encode: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield latents (B, 48, 8, 8) in [-1, 1] and tokens (B, 16), without end."""
    rng, patches = random.Random(seed), Patches()
    while True:
        scenes = [random_scene(rng, "train") for _ in range(BATCH)]
        plainer = [scene.plain(size=rng.random() < PLAIN, background=rng.random() < PLAIN) for scene in scenes]
        scenes = [new if new.split == "train" else old for old, new in zip(scenes, plainer, strict=True)]
        captions = ["" if rng.random() < UNCONDITIONAL else scene.short_caption(rng) for scene in scenes]
        pictures = np.stack([drawn(scene, rng) for scene in scenes])
        yield patches.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1).latents, encode(captions)


def rate(share: float) -> float:
    """Return the factor of the learning rate after this share of the training: a short warm-up, then a cosine."""
    return min(1.0, share / WARM_UP) * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * share)) / 2)


def train(rank: int, steps: int, further: bool) -> None:
    """Train in one of the processes; the first one writes the averaged model and the log. `further` continues from the saved
    weights, at lower learning rates."""
    logging.basicConfig(
        filename=FOLDER / "train.log" if rank == 0 else os.devnull,
        filemode="a" if further else "w",
        format="%(message)s",
        level=logging.INFO,
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = Denoiser(len(tokenizer))
    if further:
        trained = load_pipeline()
        model.unet.load_state_dict(trained.unet.state_dict())
        model.text_encoder.load_state_dict(trained.text_encoder.state_dict())
    model.train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.unet.set_attn_processor(AttnProcessor())  # faster than torch's own attention in training with so few positions
    together = DistributedDataParallel(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA))  # type: ignore[no-untyped-call]
    methods, matrices = optimizers(model)
    full_rates = [method.param_groups[0]["lr"] * (FURTHER_RATE if further else 1) for method in methods]
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod
    seed = (1000 if further else 1) + rank
    torch.manual_seed(seed)

    def encode(captions: list[str]) -> torch.Tensor:
        tokens: torch.Tensor = tokenizer(captions, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
        return tokens

    started, losses = time.perf_counter(), []
    for step, (clean, tokens) in enumerate(batches(100 + seed, encode), 1):
        for method, full in zip(methods, full_rates, strict=True):
            method.param_groups[0]["lr"] = full * rate(step / steps)
        uniform = (torch.rand(1) + torch.arange(BATCH) / BATCH) % 1  # spread evenly over [0, 1), so that gradients vary less
        timesteps = (1000 * uniform**TOWARD_NOISE).long().clamp(max=999)
        noise = torch.randn_like(clean)
        signal = alphas[timesteps].sqrt()[:, None, None, None]
        spread = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
        noisy = (signal * clean + spread * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            prediction = together(noisy, timesteps, tokens)
        loss = torch.nn.functional.mse_loss(prediction.float(), signal * noise - spread * clean)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for parameter, matrix in matrices:
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad)
        for method in methods:
            method.step()
        average.update_parameters(model)
        losses.append(float(loss.detach()))
        if (step % 500 == 0 or step == steps) and rank == 0:
            LOG.info("step %5d  loss %.4f  %5.0f s", step, np.mean(losses[-500:]), time.perf_counter() - started)
        if (step % 2000 == 0 or step == steps) and rank == 0:
            save(cast(Denoiser, average.module), tokenizer)
        if step == steps:
            break
    torch.distributed.destroy_process_group()


def save(model: Denoiser, tokenizer: Any) -> None:
    """Write the pipeline's folder, with the UNet's weights in float16."""
    pipeline = StableDiffusionPipeline(
        vae=Patches(), text_encoder=model.text_encoder, tokenizer=tokenizer, unet=deepcopy(model.unet).half(),
        scheduler=DDIMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(PIPELINE)


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=18000)
    parser.add_argument("--further", action="store_true", help="continue from the saved weights, at 0.3 of the learning rates")
    arguments = parser.parse_args()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29501")
    spawn(train, (arguments.steps, arguments.further), nprocs=PROCESSES)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
