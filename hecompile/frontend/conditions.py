"""Finds the inputs that are conditions, such as a prompt: they stay the same in every call of a sampling run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hecompile.ir.graph import InputSpec
from hecompile.ir.shapes import has_batch

__all__ = ["hide_pictures", "with_conditions"]

# usual names of inputs that a sampler changes from step to step
_STEPS = frozenset(
    ("timestep", "timesteps", "t", "time", "times", "sigma", "sigmas", "noise_level", "noise_levels", "alpha", "step")
)
_PICTURES = frozenset(("sample", "x_self_cond", "self_cond", "x_t", "noise"))
_RESIDUALS = "residual"  # in names of a ControlNet's or adapter's output, which depends on the latent or is left out in later steps


def with_conditions(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Return the inputs with `per_run` set on conditions: all inputs but the picture, the timestep and a ControlNet's residuals.

    The picture is the input called `sample`, or the first input with a batch that is no timestep. A run raises an error when a
    condition changes, so an input that is wrongly taken for a condition leads to an error, never to a wrong result.
    """
    named = any(_name(spec) == "sample" for spec in inputs)
    first = next((spec for spec in inputs if has_batch(spec.shape) and _name(spec) not in _STEPS), None)
    return tuple(replace(spec, per_run=not _changes(spec) and (named or spec is not first)) for spec in inputs)


def hide_pictures(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Return the inputs without `public` on a `timestep` of more than one number per picture, which must be something else of that
    name."""
    odd = [spec for spec in inputs if spec.public and spec.keyword[-1] == "timestep" and len(spec.shape) > 1]
    return tuple(replace(spec, public=False) if spec in odd else spec for spec in inputs)


def _name(spec: InputSpec) -> str:
    return str(spec.keyword[0]).lower()


def _changes(spec: InputSpec) -> bool:
    """Return whether an input's name says that it changes within a run."""
    return _name(spec) in _STEPS | _PICTURES or _RESIDUALS in _name(spec)
