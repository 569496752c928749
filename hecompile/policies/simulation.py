"""The policy of backends that do not encrypt, such as `clear`. It promises nothing."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.policies.min_distortion import MinDistortion

__all__ = ["Simulation"]


@dataclass(frozen=True)
class Simulation(MinDistortion):
    """Accepts the graphs that `strict` or, with a budget, `min-distortion` accepts, so that what is simulated can be deployed."""

    name = "simulation"
    needs_encryption = False
