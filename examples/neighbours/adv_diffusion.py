"""Adv-Diffusion: a picture changed within a mask, in latent space, until a recogniser takes it for something else.

After D. Liu, X. Wang, C. Peng, N. Wang, R. Hu, X. Gao, "Adv-Diffusion: Imperceptible Adversarial Face Identity Attack via Latent
Diffusion Model", AAAI 2024 (arXiv 2312.11285); on digits, whose pixels are their latents. Mask, blending, recogniser and its
gradient are the client's, between two encrypted steps.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from diffusers import DDIMScheduler
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

import hecompile
from hecompile.models import digits

MASK, STRENGTH = torch.nn.functional.pad(torch.ones(1, 1, 4, 4), (2, 2, 2, 2)), 0.3  # what may change; how far along the gradient


def recogniser(pictures: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Tells digits apart, by logistic regression trained here."""
    fitted = LogisticRegression(max_iter=200).fit(pictures.flatten(1), labels)
    linear = torch.nn.Linear(64, 10)
    linear.load_state_dict({"weight": torch.tensor(fitted.coef_), "bias": torch.tensor(fitted.intercept_)})
    return torch.nn.Sequential(torch.nn.Flatten(), linear)


def attack(unet: torch.nn.Module, judge: torch.nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 1, 8, 8) redrawn within `MASK` so that the judge takes them for the next digit."""
    scheduler = DDIMScheduler(**digits.SCHEDULER)
    scheduler.set_timesteps(20)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    sample = scheduler.add_noise(pictures, noise, torch.tensor(400))
    for t in scheduler.timesteps[scheduler.timesteps <= 400]:
        with torch.no_grad():
            step = scheduler.step(unet(sample, t, class_labels=labels).sample, t, sample)
        clean = step.pred_original_sample.requires_grad_()  # the gradient stops here: none goes through the server
        (gradient,) = torch.autograd.grad(cross_entropy(judge(clean), (labels + 1) % 10, reduction="sum"), clean)
        known = scheduler.add_noise(pictures, noise, t - 50) if t >= 50 else pictures
        sample = MASK * (step.prev_sample - STRENGTH * gradient) + (1 - MASK) * known
    return sample


def main() -> dict[str, float]:
    """Ten digits attacked through the encrypted model: what the recogniser takes them for, and what changed outside the mask."""
    data, labels = load_digits(), torch.arange(10)  # it begins with the digits 0 to 9
    everything = torch.tensor(data.images).float()[:, None] / 8 - 1
    judge, pictures = recogniser(everything, torch.tensor(data.target)), everything[:10]
    with TemporaryDirectory() as folder:
        hecompile.compile("digits", folder)
        unet = hecompile.load(folder)
        drawn = attack(unet, judge, pictures, labels)
    outside = float(((drawn - pictures) * (1 - MASK)).abs().max())
    before, after = (judge(value).argmax(1) for value in (pictures, drawn))
    hits = {"right_before": before == labels, "right": after == labels, "as_wanted": after == (labels + 1) % 10}
    figures = compared(unet, drawn, attack(digits.load(), judge, pictures, labels)) | {"changed_outside": outside}
    return figures | {name: float(value.float().mean()) for name, value in hits.items()}
