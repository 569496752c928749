"""For the `clear` backend: the same plan as under `strict` or `min-distortion`, run without encryption. Promises nothing."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.policies.min_distortion import MinDistortion

__all__ = ["Simulation"]


@dataclass(frozen=True)
class Simulation(MinDistortion):
    """The graph must still be one that the real policies would accept, so that what is simulated can be deployed."""

    name = "simulation"
    needs_encryption = False
