"""What an approximation is judged by: the pictures of a sampler's run, or the outputs of recorded calls."""

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

__all__ = ["Replacement", "Trial", "Watch", "calibrations", "entries", "psnr_db", "tensors"]

Replacement = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (x, t) -> what stands for the node
Watch = Callable[[int, fx.Node, tuple[torch.Tensor, ...]], None]  # (call, node, its arguments), before it runs
STEPS, SAMPLES = (20, 10), 50  # of the runs that polynomials are fitted to: every bin is met, and runs of unlike length
TRIAL_STEPS, TRIAL_SAMPLES, TRIAL_SEED = 10, 20, 9  # of the run that judges them: other noise


def psnr_db(reference: Floats, found: Floats) -> float:
    """10 log10(R^2 / MSE), R the width of the reference. Infinite for equal arrays, minus infinite for what is not finite."""
    error = float(np.mean((found - reference) ** 2))
    if not np.isfinite(error):
        return -np.inf
    return float(10 * np.log10((reference.max() - reference.min()) ** 2 / error)) if error else np.inf


class _Replaced(fx.Interpreter):
    """Runs a graph with functions in place of some nodes."""

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
class Trial:
    """Calls, and how their latents follow from each other: by DDIM on this schedule, or (None) as they were recorded."""

    calls: Calibration
    schedule: Mapping[str, Any] | None

    def run(
        self, graph: ModelGraph, replaced: Mapping[str, tuple[str, Replacement]] | None = None, watch: Watch | None = None
    ) -> Floats:
        """The final samples, or all outputs one after the other.

        Args:
            replaced: node -> the value that it reads, and what stands for it.
            watch: is shown the arguments of every polynomial of the graph.
        """
        results = [result for _, _, result in self._replay(graph, replaced or {}, watch)]
        last = torch.cat([result.flatten() for result in results]) if self.schedule is None else results[-1]
        found: Floats = last.double().numpy()
        return found

    def samples(self, graph: ModelGraph) -> list[torch.Tensor | None]:
        """The sampler's latent before each call; None for a recorded call."""
        return [None if self.schedule is None else inputs["sample"] for _, inputs, _ in self._replay(graph, {}, None)]

    def after(self, call: Call, inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """The sampler's latent after a call; of a recorded call its output."""
        if self._scheduler is None:
            return output
        result: torch.Tensor = self._scheduler.step(output, int(call.t), inputs["sample"]).prev_sample
        return result

    @cached_property
    def _scheduler(self) -> Any:
        if self.schedule is None:
            return None
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(dict(self.schedule))
        scheduler.set_timesteps(len(self.calls))
        return scheduler

    def _replay(
        self, graph: ModelGraph, replaced: Mapping[str, tuple[str, Replacement]], watch: Watch | None
    ) -> Iterator[tuple[Call, dict[str, torch.Tensor], torch.Tensor]]:
        """Each call with its inputs and what comes after it."""
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
    """The inputs of a call."""
    return {name: torch.from_numpy(np.asarray(value)) for name, value in call.inputs.items()}


def entries(graph: ModelGraph, call: Call) -> int:
    """How large the batch of a call is; one if no input has one."""
    for spec in graph.inputs:
        if spec.shape and isinstance(spec.shape[0], Batch):
            return len(call.inputs[spec.name]) // spec.shape[0].multiple
    return 1


def _halves(graph: ModelGraph, recorded: Calibration) -> tuple[Calibration, Calibration]:
    """The entries of every call's batch dealt to two calibrations; both are the whole where an input has but one entry."""
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


def calibrations(graph: ModelGraph, recorded: Calibration | None) -> tuple[Calibration, Trial]:
    """What to fit to, and what to judge by: other noise of the sampler, or the other half of each recorded batch."""
    if recorded is not None:
        fitted, judged = _halves(graph, recorded)
        return fitted, Trial(judged, None)
    schedule = graph.schedule or {}
    other = from_sampler(graph, schedule, TRIAL_STEPS, TRIAL_SAMPLES, TRIAL_SEED)
    runs = [from_sampler(graph, schedule, steps, SAMPLES, seed) for seed, steps in enumerate(STEPS)]
    return Calibration(tuple(call for run in runs for call in run)), Trial(other, schedule)
