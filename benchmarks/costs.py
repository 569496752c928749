"""Predictions beside measurements, with a profile of this machine: plans of the digits front, and one wide convolution.

Seconds are CPU seconds of the thread that works, in one process; peaks are of a server in a second process; batch one. Ratios
are measured over predicted. Wall seconds are told too: they agree on a quiet machine only.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from benchmarks.harness import arguments, finish, machine
from hecompile.compiler import compile_model
from hecompile.machine import load_machine, save_machine
from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
from hecompile.measure.machine import measure_machine
from hecompile.options import CompileOptions

HELD_MIB = (0.0, 0.042, 0.086)  # of digits' 0.174 MiB of weights, at the client
LEAKAGE = (0.25, 0.5)  # most of what layers read that is in clear, nothing held at the client


@dataclass(frozen=True)
class Budget:
    """A point on digits' front: the fastest plan within these."""

    client_weights_mib: float
    leakage: float

    def options(self, profile: Path) -> CompileOptions:
        options = CompileOptions(
            partition="optimised", client_weights_mib=self.client_weights_mib, machine=str(profile), max_batch=1
        )
        return replace(options, policy="min-distortion", budget=0.9, most_leakage=self.leakage) if self.leakage else options


class Conv(torch.nn.Module):
    """One convolution, 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.conv(sample)  # (B, channels, size, size)


def compared(folder: Path, profile: Path, runs: int) -> dict[str, Any]:
    """Measured over predicted, and what was measured."""
    rows = compare(predict_artifact(folder, load_machine(profile)), measure_artifact(folder, runs=runs))["total"]
    found: dict[str, Any] = {f"{row['what']}_ratio": row["ratio"] for row in rows}
    return found | {row["what"]: row["measured"] for row in rows}


def measure(folder: Path, smoke: bool, runs: int) -> dict[str, Any]:
    """All figures."""
    profile, points = folder / "machine.json", []
    save_machine(measure_machine(runs=runs), profile)
    budgets = [Budget(held, 0.0) for held in HELD_MIB] + [Budget(0.0, leakage) for leakage in LEAKAGE]
    for place, budget in enumerate(budgets[1:2] if smoke else budgets):
        compiled = compile_model("digits", folder / f"digits-{place}", options=budget.options(profile))
        found = compared(folder / f"digits-{place}", profile, runs)
        points.append({**asdict(budget), "rounds": compiled.program.plan.rounds, **found})
    channels, size = (32, 16) if smoke else (320, 64)
    options = CompileOptions(machine=str(profile), max_batch=1)
    compile_model(
        Conv(channels).eval(), folder / "conv", options=options, example_inputs={"sample": torch.randn(2, channels, size, size)}
    )
    wide = {"channels": channels, "size": size, **compared(folder / "conv", profile, min(runs, 3))}
    return {"digits_front": points, "wide_conv": wide, "profile": load_machine(profile).prices()}


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.smoke, 1 if options.smoke else options.runs)
    finish({"benchmark": "costs", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
