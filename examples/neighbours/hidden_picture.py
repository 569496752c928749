"""Steganography by inversion: a picture becomes noise under a private key, and the noise another picture under a public one.

The first tier of Y. Xu, X. Zhang, J. Yu, C. Mou, X. Meng, J. Zhang, "Diffusion-Based Hierarchical Image Steganography", 2024 (arXiv
2405.11523); the flow networks of its second tier are left out. Keys are labels here, prompts there. Both keys, the picture, the
container and all steps of DDIM are the client's; the server computes on ciphertexts in both directions.
"""

from itertools import pairwise
from tempfile import TemporaryDirectory

import torch
from comparison import compared
from diffusers import DDIMScheduler
from sklearn.datasets import load_digits

import hecompile
from hecompile.models import digits

TIMES = torch.linspace(20, 600, 11).long().tolist()
SOLVING = 3  # evaluations that a step upwards takes: its noise is that of the place where it ends


def move(sample: torch.Tensor, now: int, then: int, noise: torch.Tensor) -> torch.Tensor:
    """One deterministic step of DDIM between any two timesteps."""
    a, b = DDIMScheduler(**digits.SCHEDULER).alphas_cumprod[[now, then]]
    return (b / a).sqrt() * sample + ((1 - b).sqrt() - (b / a * (1 - a)).sqrt()) * noise


@torch.no_grad()
def translate(unet: torch.nn.Module, picture: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The picture that has under label `target` the noise that this one has under `source`: (B, 1, 8, 8)."""
    sample = picture
    for now, then in pairwise(TIMES):  # the equation sample = move(higher, then, now, noise(higher)), solved by iteration
        higher = sample
        for _ in range(SOLVING):
            higher = move(sample, now, then, unet(higher, then, class_labels=source).sample)
        sample = higher
    for now, then in pairwise(reversed(TIMES)):
        sample = move(sample, now, then, unet(sample, now, class_labels=target).sample)
    return sample


def main() -> dict[str, float]:
    """Ten digits hidden and recovered, and what the wrong private key gives, in dB from the digits."""
    pictures, private = torch.tensor(load_digits().images[:10]).float()[:, None] / 8 - 1, torch.arange(10)  # digits 0 to 9
    public, wrong = (private + 5) % 10, (private + 3) % 10
    with TemporaryDirectory() as folder:
        hecompile.compile("digits", folder)
        unet = hecompile.load(folder)
        container = translate(unet, pictures, private, public)
        shown = {"container_db": container, "private_key_db": translate(unet, container, public, private)}
        shown |= {"wrong_key_db": translate(unet, container, public, wrong)}
    figures = compared(unet, container, translate(digits.load(), pictures, private, public))
    return figures | {name: compared(unet, value, pictures)["psnr_db"] for name, value in shown.items()}
