"""Recorded calls of a model: drawn by its own seeded sampler, or read from a safetensors file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import InputSpec, concrete_shape
from hecompile.ir.linear import Array
from hecompile.outputs import write_file

if TYPE_CHECKING:
    import torch

__all__ = ["Calibration", "Call", "from_sampler", "load_calibration", "save_calibration"]


@dataclass(frozen=True, eq=False)
class Call:
    """The inputs of one call of the model: arrays by input name."""

    inputs: Mapping[str, Array]

    @property
    def t(self) -> float:
        """The timestep of the call; zero if the model has none."""
        return float(self.inputs["timestep"]) if "timestep" in self.inputs else 0.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calls of a model, in the order in which a sampler makes them.

    Raises:
        CompileError: when built without a call, or with values that are not finite.
    """

    calls: tuple[Call, ...]

    def __post_init__(self) -> None:
        if not self.calls:
            raise CompileError("a calibration needs at least one call")
        broken = sorted({name for call in self.calls for name, value in call.inputs.items() if not np.isfinite(value).all()})
        if broken:
            raise CompileError(Diagnostic(f"calibration: values of {', '.join(broken)} are not finite", help="record it again"))

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)


class Sampled(Protocol):
    """A model that a sampler can call: a graph, or a program."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]: ...
    @property
    def config(self) -> Mapping[str, object]: ...

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]: ...


def _condition(spec: InputSpec, samples: int, classes: int, rng: np.random.Generator) -> Array:
    """Values of a conditioning input for so many samples: all labels in turn, or embeddings of unit variance."""
    shape = concrete_shape(spec.shape, samples)
    if spec.dtype.startswith("float"):
        return rng.standard_normal(shape).astype(np.float32)
    return np.resize(np.arange(classes), shape).astype(spec.dtype)


def from_sampler(
    graph: Sampled, schedule: Mapping[str, Any] | None = None, steps: int = 10, samples: int = 10, seed: int = 0
) -> Calibration:
    """Return the calls of a DDIM run with the model.

    Args:
        schedule: config of a diffusers scheduler, such as `hecompile.models.digits.SCHEDULER`; None: that of DDIMScheduler.
        steps: steps of the run, each of which is one call.
        samples: how many pictures are drawn in one batch.
        seed: of the initial noise and the conditions.

    Raises:
        CompileError: if the model has no inputs `sample` and `timestep`.
    """
    import torch
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(dict(schedule or {}))
    scheduler.set_timesteps(steps)
    rng = np.random.default_rng(seed)
    classes = graph.config.get("num_class_embeds")
    fixed = {
        spec.name: _condition(spec, samples, classes if isinstance(classes, int) else 1, rng)
        for spec in graph.inputs
        if spec.name not in ("sample", "timestep")
    }
    latent = next((spec for spec in graph.inputs if spec.name == "sample"), None)
    if latent is None or "timestep" not in {spec.name for spec in graph.inputs}:
        raise CompileError("the model has no inputs 'sample' and 'timestep': record its calls in a file")
    sample = torch.from_numpy(rng.standard_normal(concrete_shape(latent.shape, samples)).astype(np.float32))
    calls = []
    for t in scheduler.timesteps:
        inputs = {**fixed, "sample": sample.numpy().copy(), "timestep": np.asarray(float(t), np.float32)}
        calls.append(Call(inputs))
        with torch.no_grad():
            noise = graph(*(torch.from_numpy(inputs[spec.name]) for spec in graph.inputs))[0]
        sample = scheduler.step(noise, t, sample).prev_sample
    return Calibration(tuple(calls))


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write calls as safetensors, named so that `0003.sample` is the latent of the fourth call.

    Raises:
        CompileError: if the file cannot be written.
    """
    from safetensors.numpy import save

    tensors = {f"{place:04d}.{name}": value for place, call in enumerate(calibration) for name, value in call.inputs.items()}
    write_file(path, save(tensors))


def load_calibration(path: Path) -> Calibration:
    """Read calls that `save_calibration` wrote.

    Raises:
        CompileError: if the file is no safetensors file, if its tensors have other names, or if its calls have different inputs.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CompileError(f"{path}: not a calibration: {getattr(error, 'strerror', None) or error}") from error
    calls: dict[int, dict[str, Array]] = {}
    for key, value in tensors.items():
        number, dot, name = key.partition(".")
        if not (dot and name and number.isdigit()):
            raise CompileError(f"{path}: '{key}' is not named like 0003.sample")
        calls.setdefault(int(number), {})[name] = value
    if len({frozenset(inputs) for inputs in calls.values()}) > 1:
        raise CompileError(f"{path}: the calls have different inputs")
    return Calibration(tuple(Call(calls[number]) for number in sorted(calls)))
