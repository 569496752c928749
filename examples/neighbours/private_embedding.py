"""Differentially private textual inversion: one embedding per private picture, clipped, averaged, noised; the UNet is unchanged.

After P. Peetathawatchai, W.-N. Chen, B. Isik, S. Koyejo, A. No, "Differentially Private Adaptation of Diffusion Models via Noisy
Aggregated Embeddings", 2024 (arXiv 2411.14639); the embedding of a label stands for that of a token. Pictures, training and
embedding stay at the client; the embedding is sent encrypted, to a model that was compiled before it was learned.
"""

from math import log
from tempfile import TemporaryDirectory

import torch
from comparison import compared
from diffusers import DDIMScheduler
from sklearn.datasets import load_digits

import hecompile
from hecompile.models import digits
from hecompile.models.digits.classifier import recognised_share

PRIVATE, CLIP, RATIO, DELTA = 2, 4.0, 2.0, 1e-5  # the digit; norm of a picture's part; deviation of the noise by sensitivity
EPSILON = 1 / (2 * RATIO**2) + (2 * log(1 / DELTA)) ** 0.5 / RATIO  # Bun and Steinke, 2016, proposition 1.3
SCHEDULER = DDIMScheduler(**digits.SCHEDULER)


def learn(unet: torch.nn.Module, start: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """For each picture alone, how ten signed gradient steps move the embedding (64); the change is clipped: (B, 64)."""
    embeddings = start.repeat(len(pictures), 1)
    for _ in range(10):
        times, noise = torch.randint(20, 900, (len(pictures),)), torch.randn_like(pictures)
        predicted = unet(SCHEDULER.add_noise(pictures, noise, times), times, class_labels=embeddings.requires_grad_()).sample
        (slope,) = torch.autograd.grad((predicted - noise).square().sum(), embeddings)
        embeddings = embeddings.detach() - 0.3 * slope.sign()
    added = embeddings - start
    return added * (CLIP / added.norm(dim=1, keepdim=True)).clamp(max=1)


def draw(unet: torch.nn.Module, embedding: torch.Tensor) -> torch.Tensor:
    SCHEDULER.set_timesteps(10)
    sample = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    for t in SCHEDULER.timesteps:
        sample = SCHEDULER.step(unet(sample, t, class_labels=embedding.repeat(16, 1)).sample, t, sample).prev_sample
    return sample


def main() -> dict[str, float]:
    """Sixteen digits drawn encrypted from the private embedding, and from the mean of all labels, at which it started."""
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    pictures = torch.tensor(pixels[labels == PRIVATE]).float().view(-1, 1, 8, 8) / 8 - 1
    network = digits.load().requires_grad_(False)
    start, network.class_embedding = network.class_embedding.weight.mean(0), torch.nn.Identity()
    with TemporaryDirectory() as folder:
        inputs = {"sample": pictures[:2], "timestep": torch.tensor(1), "class_labels": start.repeat(2, 1)}
        hecompile.compile(network, folder, example_inputs=inputs)
        unet = hecompile.load(folder)
        private = start + learn(network, start, pictures).mean(0) + RATIO * 2 * CLIP / len(pictures) * torch.randn(64)
        drawn, before = draw(unet, private), draw(unet, start)
    shares = [recognised_share((value / 2 + 0.5).clamp(0, 1).numpy(), [PRIVATE] * 16) for value in (drawn, before)]
    figures = {"epsilon": EPSILON, "recognised": shares[0], "recognised_before": shares[1]}
    return compared(unet, drawn, draw(network, private)) | figures
