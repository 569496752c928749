"""The inputs that a program's regions get, and the ranges of all values, over recorded calls or the model's own sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hecompile.calibration.calls import Calibration, from_sampler
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.approximation import RecordedCall
from hecompile.ir.graph import InputSpec
from hecompile.ir.linear import Array
from hecompile.ir.regions import AnyCall, Program

if TYPE_CHECKING:
    import torch

__all__ = ["region_inputs", "value_ranges"]


@dataclass(frozen=True)
class _Sampled:
    """A program that a sampler can call."""

    program: Program

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return self.program.inputs

    @property
    def config(self) -> Mapping[str, object]:
        return self.program.config

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        import torch

        named = {spec.name: value.numpy() for spec, value in zip(self.inputs, inputs, strict=True)}
        values = self.program.run(named)
        return tuple(torch.from_numpy(values[name]) for name in self.program.plan.outputs)


def region_inputs(program: Program, region: AnyCall, calibration: Calibration | None = None) -> list[Array]:
    """Return every input of a region, with the samples of all calls along the first dimension. None: calls of the model's own
    sampler.

    Raises:
        CompileError: if a value is not finite.
    """
    calls = calibration or from_sampler(_Sampled(program), steps=5, samples=8)
    by_call = [[values[name] for name in region.inputs] for values in (program.run(call.inputs) for call in calls)]
    inputs: list[Array] = [np.concatenate(parts) for parts in zip(*by_call, strict=True)]
    broken = [name for name, value in zip(region.inputs, inputs, strict=True) if not np.isfinite(value).all()]
    if broken:
        raise CompileError(
            Diagnostic(
                f"region '{region.name}': {', '.join(broken)} is not finite in calibration", help="correct the model's weights"
            )
        )
    return inputs


def value_ranges(program: Program, calls: Iterable[RecordedCall] | None = None) -> dict[str, float]:
    """Return the largest |entry| of every value of the plan by name, over these calls. None: calls of the model's own sampler.

    It is infinite for a value that was not finite in some call.
    """
    ranges = dict[str, float]()
    for call in calls or from_sampler(_Sampled(program), steps=5, samples=8):
        for name, value in program.run(call.inputs).items():
            largest = float(np.abs(value).max()) if np.isfinite(value).all() else np.inf
            ranges[name] = max(ranges.get(name, 0.0), largest)
    return ranges
