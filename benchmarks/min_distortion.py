"""Encrypting a quarter of the channels against encrypting all: the server's time, on digits and on a conv of SD's size.

The budget is the one at which a quarter of the entries that the server's layers read stays encrypted. Times are the server's work
on one call at batch one, within this process, the two artifacts in turn.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

from benchmarks.harness import arguments, finish, machine
from hecompile.compiler import compile_model, pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.layers import secret_layers
from hecompile.ir.releases import Release, narrow_releases
from hecompile.models import digits
from hecompile.options import CompileOptions
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.service import Service
from hecompile.runtime.transports import LocalTransport

SHARE = 0.25


class ConvBlock(torch.nn.Module):
    """Norm, SiLU and a 3x3 convolution, as in Stable Diffusion's first level: (B, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.GroupNorm(32, channels)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.nn.functional.silu(self.norm(sample)))


class Stopwatch(LocalTransport):
    """Notes the seconds of every answer."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.seconds = 0.0

    def send(self, digest: str, region: str, body: bytes) -> bytes:
        started = time.perf_counter()
        reply = super().send(digest, region, body)
        self.seconds += time.perf_counter() - started
        return reply


def encrypted_share(graph: Any) -> float:
    """Encrypted entries among those that the server's layers read."""
    encrypted = total = 0
    for layer in secret_layers(graph):
        split: ChannelSplit = layer.product.split
        _, height, width = layer.product.geometry.picture
        encrypted += len(split.encrypted) * height * width
        total += split.channels * height * width
    return encrypted / total


def budget_for(source: Any, example: Any, share: float) -> float:
    """The least budget, in steps of 0.01, that leaves at most `share` of the entries encrypted."""
    program: Any = load_source(source, example)
    for each in pipeline(CompileOptions(policy="min-distortion", budget=0.99, importance="magnitude"), None)[:4]:
        program = each.run(program)

    def within(budget: float) -> Callable[[Release], Release]:
        def narrowed(release: Release) -> Release:
            shown = np.searchsorted(np.cumsum(np.sort(release.shares)), budget * release.shares.sum(), side="right")
            return release.with_encrypted(max(1, len(release.shares) - int(shown)))

        return narrowed

    budgets = [step / 100 for step in range(100)]
    return next(budget for budget in budgets if encrypted_share(narrow_releases(program, within(budget))) <= share)


def compare(source: Any, example: Any, budget: float, runs: int, inputs: dict[str, Any]) -> dict[str, Any]:
    """Server seconds of strict and sparse, and what sparse costs in quality."""
    from hecompile.runtime.bundle import load_bundle
    from hecompile.runtime.service import load_service

    choices = {
        "strict": CompileOptions(max_batch=1),
        "min-distortion": CompileOptions(policy="min-distortion", budget=budget, importance="magnitude", max_batch=1),
    }
    unets, watches, outputs, shares = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in choices.items():
            place = Path(folder) / name
            program = compile_model(source, place, options=options, example_inputs=example).program
            shares[name] = share_of(program)
            watches[name] = Stopwatch(load_service(place))
            unets[name] = EncryptedUNet(load_bundle(place, name), watches[name])
        inputs = inputs | {"sample": unets["min-distortion"].initial_noise(1)}  # it takes no other
        times: dict[str, list[float]] = {name: [] for name in choices}
        for turn in range(runs + 1):
            for name, unet in unets.items():
                watches[name].seconds = 0.0
                outputs[name] = unet(**inputs, return_dict=False)[0].numpy()
                if turn:  # the first is a warm-up
                    times[name].append(watches[name].seconds)
    strict, sparse = outputs["strict"].astype(np.float64), outputs["min-distortion"]
    peak = strict.max() - strict.min()
    return {
        "strict_s": median(times["strict"]),
        "sparse_s": median(times["min-distortion"]),
        "ratio": median(sparse / strict for sparse, strict in zip(times["min-distortion"], times["strict"], strict=True)),
        "encrypted_share": shares["min-distortion"],
        "budget": budget,
        "psnr_db_against_strict": float(10 * np.log10(peak**2 / np.mean((strict - sparse) ** 2))),
        "runs": runs,
    }


def share_of(program: Any) -> float:
    """Encrypted entries among those that the server's layers read, in a lowered program; once per upload."""
    encrypted = total = 0
    for product in program.products:
        _, height, width = product.geometry.picture
        encrypted += len(product.split.encrypted) * height * width
        total += product.split.channels * height * width
    return encrypted / total


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    channels, size, runs = (64, 16, 1) if options.smoke else (320, 64, options.runs)
    generator = torch.Generator().manual_seed(0)
    block = ConvBlock(channels).eval()
    example = {"sample": torch.randn(2, channels, size, size, generator=generator), "timestep": torch.tensor(500.0)}
    latent = {"sample": torch.randn(1, channels, size, size, generator=generator), "timestep": torch.tensor(500.0)}
    digit = {
        "sample": torch.randn(1, 1, 8, 8, generator=generator), "timestep": torch.tensor(500.0), "class_labels": torch.tensor([7]),
    }  # fmt: skip
    found = {
        "digits": compare("digits", None, budget_for(digits.load(), None, SHARE), runs, digit),
        f"conv_{channels}_{size}x{size}": compare(block, example, budget_for(block, example, SHARE), runs, latent),
    }
    figures = {"benchmark": "min_distortion", "smoke": options.smoke, "models": found, "security_bits": 128, "machine": machine()}
    finish(figures, options.json)


if __name__ == "__main__":
    main()
