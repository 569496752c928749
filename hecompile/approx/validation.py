"""The validation run by which an approximation is judged: the pictures of a sampler's run, or the outputs of recorded calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx

from hecompile.approx.fits import Floats
from hecompile.calibration import Calibration, Call, from_sampler
from hecompile.ir.graph import Batch, ModelGraph
from hecompile.ir.linear import Array
from hecompile.ir.ops import POLYNOMIAL

__all__ = ["Replacement", "ValidationRun", "Watch", "calibrations", "entries", "psnr_db", "tensors"]

Replacement = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (x, t) -> the value in place of the node's
Watch = Callable[
    [int, fx.Node, tuple[torch.Tensor, ...]], None
]  # called with (number of the call, node, its arguments) before the node runs
STEPS, SAMPLES = (20, 10), 50  # of the runs that polynomials are fitted to: they meet every timestep bin, with two lengths
VALIDATION_STEPS, VALIDATION_SAMPLES, VALIDATION_SEED = 10, 20, 9  # of the validation run, with other noise


def psnr_db(reference: Floats, values: Floats) -> float:
    """The PSNR in dB, 10 log10(R^2 / MSE), where R is the largest minus the least value of the reference.

    It is infinite for equal arrays, and minus infinite if `values` are not finite.
    """
    error = float(np.mean((values - reference) ** 2))
    if not np.isfinite(error):
        return -np.inf
    return float(10 * np.log10((reference.max() - reference.min()) ** 2 / error)) if error else np.inf


class _Replaced(fx.Interpreter):
    """Runs a graph with functions in place of some nodes, and passes the arguments of polynomials to `watch`."""

    def __init__(
        self, graph: ModelGraph, replaced: Mapping[str, tuple[str, Replacement]], t: torch.Tensor, call: int, watch: Watch | None
    ) -> None:
        super().__init__(graph.graph_module, garbage_collect_values=False)
        self._replaced, self._t, self._call, self._watch = replaced, t, call, watch
        self._by_name = {node.name: node for node in graph.nodes}

    def run_node(self, n: fx.Node) -> Any:
        if self._watch is not None and str(n.target) == POLYNOMIAL:
            self._watch(self._call, n, self.fetch_args_kwargs_from_env(n)[0])
        if n.name not in self._replaced:
            return super().run_node(n)
        argument, function = self._replaced[n.name]
        return function(self.env[self._by_name[argument]], self._t)


@dataclass(frozen=True, eq=False)
class ValidationRun:
    """Calls of the model, and how each latent follows from the one before: by DDIM with this schedule, or, if None, as recorded."""

    calls: Calibration
    schedule: Mapping[str, Any] | None

    def run(
        self, graph: ModelGraph, replaced: Mapping[str, tuple[str, Replacement]] | None = None, watch: Watch | None = None
    ) -> Floats:
        """Run a graph and return the final samples of the sampler, or all outputs of recorded calls in one flat array.

        Args:
            replaced: by node name: the name of the value that it reads, and the function that replaces it.
            watch: is called with the arguments of every polynomial of the graph.
        """
        results = [result for _, _, result in self._replay(graph, replaced or {}, watch)]
        last = torch.cat([result.flatten() for result in results]) if self.schedule is None else results[-1]
        samples: Floats = last.double().numpy()
        return samples

    def samples(self, graph: ModelGraph) -> list[torch.Tensor | None]:
        """The sampler's latent before each call; None for a recorded call."""
        return [None if self.schedule is None else inputs["sample"] for _, inputs, _ in self._replay(graph, {}, None)]

    def after(self, call: Call, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """The sampler's latent after a call, or the output of a recorded call."""
        if self._scheduler is None:
            return output
        result: torch.Tensor = self._scheduler.step(output, int(call.t), inputs["sample"]).prev_sample
        return result

    @cached_property
    def _scheduler(self) -> Any:
        """The DDIM scheduler, or None for recorded calls."""
        if self.schedule is None:
            return None
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(dict(self.schedule))
        scheduler.set_timesteps(len(self.calls))
        return scheduler

    def _replay(
        self, graph: ModelGraph, replaced: Mapping[str, tuple[str, Replacement]], watch: Watch | None
    ) -> Iterator[tuple[Call, dict[str, torch.Tensor], torch.Tensor]]:
        """Run all calls in order. Yields each call, its inputs, and the latent after it (or its output, if recorded)."""
        sample = None
        for place, call in enumerate(self.calls):
            inputs = tensors(call) if sample is None else {**tensors(call), "sample": sample}
            interpreter = _Replaced(graph, replaced, torch.tensor(call.t), place, watch)
            with torch.no_grad():
                output = interpreter.run(*(inputs[spec.name] for spec in graph.inputs))[0]
                result = self.after(call, inputs, output)
            sample = None if self.schedule is None else result
            yield call, inputs, result


def tensors(call: Call) -> dict[str, torch.Tensor]:
    """The inputs of a call as tensors, by name."""
    return {name: torch.from_numpy(np.asarray(value)) for name, value in call.inputs.items()}


def entries(graph: ModelGraph, call: Call) -> int:
    """The size of a call's batch; one if no input has a batch."""
    for spec in graph.inputs:
        if spec.shape and isinstance(spec.shape[0], Batch):
            return len(call.inputs[spec.name]) // spec.shape[0].multiple
    return 1


def _halves(graph: ModelGraph, recorded: Calibration) -> tuple[Calibration, Calibration]:
    """Split the batch of every call into two calibrations. Both are the whole calibration if a batch has only one entry."""
    shapes = {spec.name: spec.shape for spec in graph.inputs}
    grown = {name: shape[0].multiple for name, shape in shapes.items() if shape and isinstance(shape[0], Batch)}
    if any(len(call.inputs[name]) < 2 * multiple for call in recorded for name, multiple in grown.items()):
        return recorded, recorded

    def part(name: str, value: Array, second: bool) -> Array:
        middle = len(value) // grown[name] // 2 * grown[name] if name in grown else 0
        return value if name not in grown else value[middle:] if second else value[:middle]

    first, second = (
        Calibration(tuple(Call({name: part(name, value, half) for name, value in call.inputs.items()}) for call in recorded))
        for half in (False, True)
    )
    return first, second


def calibrations(graph: ModelGraph, recorded: Calibration | None) -> tuple[Calibration, ValidationRun]:
    """The calls to fit to, and the validation run.

    The validation run has other noise of the sampler, or the other half of each recorded batch.
    """
    if recorded is not None:
        fitted, validated = _halves(graph, recorded)
        return fitted, ValidationRun(validated, None)
    schedule = graph.schedule or {}
    other = from_sampler(graph, schedule, VALIDATION_STEPS, VALIDATION_SAMPLES, VALIDATION_SEED)
    runs = [from_sampler(graph, schedule, steps, SAMPLES, seed) for seed, steps in enumerate(STEPS)]
    return Calibration(tuple(call for run in runs for call in run)), ValidationRun(other, schedule)
