"""For the `clear` backend: the same plan as under `strict`, run without encryption. Promises nothing."""

from __future__ import annotations

from hecompile.policies.strict import Strict

__all__ = ["Simulation"]


class Simulation(Strict):
    """The graph must still be one that `strict` would accept, so that the simulation is of something that can be deployed."""

    name = "simulation"
    needs_encryption = False
