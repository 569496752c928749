"""Predictions beside measurements, with a profile of this machine: plans of the digits front, and layers of Stable Diffusion's
sizes.

`server_s` and `client_s` are CPU seconds of all threads while a request is computed, in one process; `server_process_s` and
`client_process_s` are those of both processes in a run over HTTP, whose server's peak is told; batch one. Ratios are measured over
predicted, the worst is the one that is furthest from one in either direction. Wall seconds are told too: they agree on a quiet
machine only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from benchmarks.harness import arguments, finish, machine
from hecompile.compiler import compile_model
from hecompile.ir.regions import Program
from hecompile.machine import load_machine
from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
from hecompile.options import CompileOptions

WORST = {  # what a worst ratio is over
    "seconds": ("server_s", "client_s"),
    "process_seconds": ("server_process_s", "client_process_s"),
    "bytes": ("bytes_up", "bytes_down"),
    "memory": ("peak_mib",),
}
HELD_MIB = (0.0, 0.042, 0.086)  # of digits' 0.174 MiB of weights, at the client
LEAKAGE = (0.25, 0.5)  # most of what layers read that is in the clear, nothing held at the client


@dataclass(frozen=True)
class Budget:
    """A point on digits' front: the fastest plan within these."""

    client_weights_mib: float
    leakage: float

    def options(self, profile: Path) -> CompileOptions:
        options = CompileOptions(
            partition="optimised", client_weights_mib=self.client_weights_mib, machine=str(profile), max_batch=1
        )
        return (
            CompileOptions(choices=options.choices, policy="min-distortion", budget=0.9, most_leakage=self.leakage)
            if self.leakage
            else options
        )


@dataclass(frozen=True)
class Wide:
    """A layer of Stable Diffusion's: a convolution of 3x3 on a square picture, or a linear layer on so many tokens."""

    kind: str
    channels: int
    outputs: int
    size: int

    def layer(self) -> torch.nn.Module:
        torch.manual_seed(0)
        if self.kind == "conv":
            return torch.nn.Conv2d(self.channels, self.outputs, 3, padding=1)
        return torch.nn.Linear(self.channels, self.outputs)

    def sample(self) -> torch.Tensor:
        """Two of its inputs."""
        if self.kind == "conv":
            return torch.randn(2, self.channels, self.size, self.size)  # (B, C, H, W)
        return torch.randn(2, self.size, self.channels)  # (B, L, C)


WIDE = (
    Wide("conv", 320, 320, 64),
    Wide("conv", 640, 640, 32),
    Wide("conv", 1280, 1280, 16),
    Wide("conv", 1280, 1280, 8),
    Wide("linear", 320, 1280, 4096),
)
SMOKE = (Wide("conv", 32, 32, 16), Wide("linear", 64, 128, 256))


class Alone(torch.nn.Module):
    """One layer as a model."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.layer(sample)


def compared(folder: Path, profile: Path, runs: int) -> dict[str, Any]:
    """Measured over predicted, and what was measured."""
    rows = compare(predict_artifact(folder, load_machine(profile)), measure_artifact(folder, runs=runs))["total"]
    ratios: dict[str, Any] = {f"{row['what']}_ratio": row["ratio"] for row in rows}
    return ratios | {row["what"]: row["measured"] for row in rows}


def measure(folder: Path, smoke: bool, runs: int) -> dict[str, Any]:
    """All figures."""
    profile, points = folder / "machine.json", []
    measured = "from pathlib import Path; from hecompile.machine import *; from hecompile.measure.machine import *"
    save = f"{measured}; save_machine(measure_machine(runs={runs}), Path({str(profile)!r}))"
    subprocess.run([sys.executable, "-c", save], check=True)  # threads of Concrete's would go on computing in this process
    budgets = [Budget(held, 0.0) for held in HELD_MIB] + [Budget(0.0, leakage) for leakage in LEAKAGE]
    for place, budget in enumerate(budgets[1:2] if smoke else budgets):
        compiled = compile_model("digits", folder / f"digits-{place}", options=budget.options(profile))
        figures = compared(folder / f"digits-{place}", profile, runs)
        assert isinstance(compiled.program, Program)
        points.append({**asdict(budget), "rounds": compiled.program.plan.rounds, **figures})
    wide, options = [], CompileOptions(machine=str(profile), max_batch=1)
    for case in SMOKE if smoke else WIDE:
        compile_model(Alone(case.layer()).eval(), folder / "wide", options=options, example_inputs={"sample": case.sample()})
        wide.append({**asdict(case), **compared(folder / "wide", profile, min(runs, 3))})
        shutil.rmtree(folder / "wide")
    return {**worst(points + wide), "digits_front": points, "wide": wide, "profile": load_machine(profile).prices()}


def worst(rows: list[dict[str, Any]]) -> dict[str, float]:
    """For seconds, bytes and memory: the ratio furthest from one, inverted where it is below one."""
    ratios_of = {what: [row[f"{key}_ratio"] for row in rows for key in keys] for what, keys in WORST.items()}
    return {f"worst_{what}_ratio": max(max(ratio, 1 / ratio) for ratio in ratios) for what, ratios in ratios_of.items()}


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.smoke, 1 if options.smoke else options.runs)
    finish({"benchmark": "costs", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
