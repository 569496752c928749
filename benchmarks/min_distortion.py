"""Encrypting a quarter of what layers read against encrypting all: the server's time, on digits and on a conv of SD's size.

By channels, and on the conv by tiles too; and what the cost model says of channels and tiles for layers of several sizes.
The budget is the one at which a quarter of the entries that the server's layers read stays encrypted. Times are the server's work
on one call at batch one, within this process, the two artifacts in turn.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

from benchmarks.harness import arguments, finish, machine
from hecompile.backends.bfv.pricing import cost_of, parameters_for, revealed_of
from hecompile.buffers import Buffer
from hecompile.compiler import compile_model, pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.candidates import Cost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.layer_groups import LayerGroup
from hecompile.ir.layers import secret_layers
from hecompile.ir.linear import Array, Geometry, conv2d, linear
from hecompile.ir.reveals import Reveal, narrow_reveals
from hecompile.ir.tiles import Tiles
from hecompile.machine import Machine
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

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        started = time.perf_counter()
        super().send(digest, region, body, reply)
        self.seconds += time.perf_counter() - started


def encrypted_share(graph: Any) -> float:
    """Encrypted entries among those that the server's layers read."""
    encrypted, total = 0.0, 0
    for layer in secret_layers(graph):
        entries = math.prod(layer.linear_op.geometry.picture)
        encrypted += layer.linear_op.split.encrypted_share(layer.linear_op.geometry) * entries
        total += entries
    return encrypted / total


def revealing(budget: float, tile: str) -> CompileOptions:
    """By tiles of this size, or by channels if there is none."""
    options = CompileOptions(policy="min-distortion", budget=budget, importance="magnitude", max_batch=1)
    return CompileOptions(choices=options.choices, granularity="tile", tile=tile) if tile else options


def budget_for(source: Any, example: Any, share: float, tile: str = "") -> float:
    """The least budget, in steps of 0.01, that leaves at most `share` of the entries encrypted."""
    program: Any = load_source(source, example)
    for step in pipeline(revealing(0.99, tile), None)[:4]:
        program = step.run(program)

    def within(budget: float) -> Callable[[Reveal], Reveal]:
        def narrowed(reveal: Reveal) -> Reveal:
            most = np.searchsorted(np.cumsum(np.sort(reveal.shares, axis=None)), budget * reveal.shares.sum(), side="right")
            return reveal.with_encrypted(max(1, reveal.shares.size - int(most)))

        return narrowed

    budgets = [step / 100 for step in range(100)]
    return next(budget for budget in budgets if encrypted_share(narrow_reveals(program, within(budget))) <= share)


def compare(source: Any, example: Any, budget: float, runs: int, inputs: dict[str, Any], tile: str = "") -> dict[str, Any]:
    """Server seconds of strict and sparse, and what sparse costs in quality; of calls alone, and of a run's later calls."""
    alone = timed(source, example, budget, runs, inputs, tile, client_cache_mib=0.0)
    later = timed(source, example, budget, runs, inputs, tile)
    return alone | {f"later_{name}": later[name] for name in ("strict_s", "sparse_s", "ratio")}


def timed(
    source: Any, example: Any, budget: float, runs: int, inputs: dict[str, Any], tile: str, client_cache_mib: float | None = None
) -> dict[str, Any]:
    """Medians over calls at one timestep, strict and sparse in turn."""
    from hecompile.runtime.bundle import load_bundle
    from hecompile.runtime.service import load_service

    choices = {
        "strict": CompileOptions(max_batch=1, client_cache_mib=client_cache_mib),
        "min-distortion": CompileOptions(choices=revealing(budget, tile).choices, client_cache_mib=client_cache_mib),
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
                if turn:  # the first is a warm-up, and the first of a run
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
    encrypted, total = 0.0, 0
    for linear_op in program.linear_ops:
        entries = math.prod(linear_op.geometry.picture)
        encrypted += linear_op.split.encrypted_share(linear_op.geometry) * entries
        total += entries
    return encrypted / total


def predicted(geometry: Geometry, weights: Array, tiles: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Predicted costs of encrypting a quarter, by channels and by tiles of these sizes, over those of encrypting everything."""
    values = np.rint(weights / np.abs(weights).max(axis=(1, 2), keepdims=True) * 127).astype(np.int8)
    group = LayerGroup(("y",), ("y",), "x", geometry, 1, ChannelSplit(geometry.channels), values)
    splits = {"channels": ChannelSplit(geometry.channels, tuple(range(geometry.channels // 4, geometry.channels)))}
    for height, width in tiles:
        rows, columns = geometry.size[0] // height, geometry.size[1] // width
        cut = Tiles(rows, columns, tuple(range(rows * columns // 4)))
        splits[f"tiles {height}x{width}"] = ChannelSplit(geometry.channels, tiles=cut)
    strict, ratios = cost_with(group, group.split), []
    for name, split in splits.items():
        cost = cost_with(group, split)
        fields = ("server_s", "client_s", "up_bytes", "down_bytes")
        ratios.append({"part": name, **{field: getattr(cost, field) / getattr(strict, field) for field in fields}})
    return ratios


def cost_with(group: LayerGroup, split: ChannelSplit) -> Cost:
    """The cheapest way to run a layer split so."""
    choice = parameters_for(group, Machine(), split=split)
    assert choice is not None
    return cost_of(choice, Machine(), revealed_of(group.geometry, split, group.images_per_sample, choice.parameters.t_bits))


def predictions() -> dict[str, list[dict[str, Any]]]:
    """Layers of Stable Diffusion's shapes, and a small one."""
    rng = np.random.default_rng(0)

    def conv(channels: int, size: int) -> tuple[Geometry, Array]:
        weights = rng.standard_normal((channels, channels, 3, 3))
        return conv2d(weights, (size, size), (1, 1), (1, 1), (1, 1), 1)

    tokens = linear(rng.standard_normal((320, 320)), 4096)
    return {
        "3x3, 320 channels, 64x64": predicted(*conv(320, 64), [(16, 64), (8, 8), (4, 4)]),
        "linear, 320 channels, 4096 tokens": predicted(*tokens, [(64, 1)]),
        "3x3, 640 channels, 32x32": predicted(*conv(640, 32), [(8, 32)]),
        "3x3, 32 channels, 8x8": predicted(*conv(32, 8), [(4, 4)]),
    }


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
    models = {
        "digits": compare("digits", None, budget_for(digits.load(), None, SHARE), runs, digit),
        f"conv_{channels}_{size}x{size}": compare(block, example, budget_for(block, example, SHARE), runs, latent),
    }
    tile = f"{size // 4}x{size}"
    budget = budget_for(block, example, SHARE, tile)
    models[f"conv_{channels}_{size}x{size}, tiles {tile}"] = compare(block, example, budget, runs, latent, tile)
    figures = {
        "benchmark": "min_distortion", "smoke": options.smoke, "models": models, "predicted": predictions(), "security_bits": 128,
        "machine": machine(),
    }  # fmt: skip
    finish(figures, options.json)


if __name__ == "__main__":
    main()
