"""Differentially private fine-tuning: a LoRA trained by DP-SGD on negatives of digits, merged into the model, compiled.

After Y.-L. Tsai, Y. Li, Z. Chen, P.-Y. Chen, C.-M. Yu, X. Ren, F. Buet-Golfouse, "Differentially Private Fine-Tuning of Diffusion
Models", 2024 (arXiv 2406.01355), with Opacus, whose secure_mode a real training turns on. Who trains and compiles sees the private
pictures; servers get weights with noise in them, and the pictures that clients draw by them are encrypted.
"""

from tempfile import TemporaryDirectory

import torch
from comparison import compared
from diffusers import DDIMScheduler
from opacus import PrivacyEngine
from peft import LoraConfig, get_peft_model
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import hecompile
from hecompile.models import digits

STEPS, NOISE, CLIP, DELTA = 10, 1.0, 1.0, 1e-4  # deviation of the noise by CLIP, the norm of a picture's gradient
SCHEDULER = DDIMScheduler(**digits.SCHEDULER)


def loss(unet: torch.nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the noise predicted for pictures (B, 1, 8, 8) at random timesteps."""
    times, noise = torch.randint(20, 900, (len(pictures),)), torch.randn_like(pictures)
    return (unet(SCHEDULER.add_noise(pictures, noise, times), times, class_labels=labels).sample - noise).square().mean()


def train(unet: torch.nn.Module, data: TensorDataset) -> tuple[torch.nn.Module, PrivacyEngine]:
    """The UNet with the trained LoRA merged, and the engine that counted what was spent."""
    adapted = get_peft_model(unet, LoraConfig(r=4, lora_alpha=4, target_modules=["conv1", "conv2", "conv_in", "conv_out"])).train()
    optimizer = torch.optim.Adam([weights for weights in adapted.parameters() if weights.requires_grad], 1e-2)
    engine, loader = PrivacyEngine(accountant="rdp"), DataLoader(data, batch_size=100)
    adapted, optimizer, loader = engine.make_private(
        module=adapted, optimizer=optimizer, data_loader=loader, noise_multiplier=NOISE, max_grad_norm=CLIP
    )
    for _, batch in zip(range(STEPS), loader, strict=False):
        optimizer.zero_grad()
        loss(adapted, *batch).backward()
        optimizer.step()
    return adapted._module.merge_and_unload().eval(), engine


def main() -> dict[str, float]:
    """Ten negatives denoised encrypted once, the loss on held-out ones before and after, and the epsilon that was spent."""
    torch.manual_seed(0)
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    pictures = 1 - pixels.float().view(-1, 1, 8, 8) / 8
    tuned, engine = train(digits.load(), TensorDataset(pictures[:1500], labels[:1500]))
    with TemporaryDirectory() as folder, torch.no_grad():
        hecompile.compile(tuned, folder)
        unet, noisy = hecompile.load(folder), SCHEDULER.add_noise(pictures[:10], torch.randn(10, 1, 8, 8), torch.tensor(400))
        drawn, plain = (model(noisy, 400, class_labels=labels[:10]).sample for model in (unet, tuned))
        losses = [float(loss(model, pictures[1500:], labels[1500:])) for model in (tuned, digits.load())]
    spent = {"epsilon": engine.get_epsilon(DELTA), "loss": losses[0], "loss_before": losses[1]}
    return compared(unet, drawn, plain) | spent
