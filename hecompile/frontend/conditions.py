"""Which inputs are conditions, the same in every call of a sampling run as a prompt is, and which only look like a timestep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hecompile.ir.graph import InputSpec
from hecompile.ir.shapes import has_batch

__all__ = ["hide_pictures", "with_conditions"]

# what a sampler changes from step to step, by the names that people give it
_STEPS = frozenset(
    ("timestep", "timesteps", "t", "time", "times", "sigma", "sigmas", "noise_level", "noise_levels", "alpha", "step")
)
_PICTURES = frozenset(("sample", "x_self_cond", "self_cond", "x_t", "noise"))
_RESIDUALS = "residual"  # of a ControlNet or an adapter, which sees the latent or may be turned off for later steps


def with_conditions(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs with `per_run` set: all but the picture, the step and a ControlNet's residuals.

    The picture is called `sample`, or is the first input with a batch that is no step. A run raises an error when a condition
    changes: to take an input for a condition that is none costs a message, never a wrong number.
    """
    named = any(_name(spec) == "sample" for spec in inputs)
    first = next((spec for spec in inputs if has_batch(spec.shape) and _name(spec) not in _STEPS), None)
    return tuple(replace(spec, per_run=not _changes(spec) and (named or spec is not first)) for spec in inputs)


def hide_pictures(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs without `public` on a `timestep` of more than one number per picture: that is another thing by its name."""
    odd = [spec for spec in inputs if spec.public and spec.keyword[-1] == "timestep" and len(spec.shape) > 1]
    return tuple(replace(spec, public=False) if spec in odd else spec for spec in inputs)


def _name(spec: InputSpec) -> str:
    return str(spec.keyword[0]).lower()


def _changes(spec: InputSpec) -> bool:
    """Whether an input's name says that it changes within a run."""
    return _name(spec) in _STEPS | _PICTURES or _RESIDUALS in _name(spec)
