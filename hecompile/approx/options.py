"""The options of approximating activations and norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hecompile.panels import Idle, Panel, option

__all__ = ["MOST_DEGREE", "ApproximationOptions"]

MOST_DEGREE = 31  # above it float32 adds no accuracy


@dataclass(frozen=True)
class ApproximationOptions(Panel):
    """Which activations and norms become polynomials, and of which degrees."""

    title: ClassVar[str] = "Activations and norms as polynomials"
    alternatives: ClassVar = ((("degree", "budget_db", "total_depth"), "choose the degrees"),)

    activations: str = option(
        "exact", help="exact: at the client; polynomial: by additions and products only", choices=("exact", "polynomial")
    )
    norms: str = option(
        "exact",
        help="exact: at the client; static: a fixed scale and shift; polynomial: by sums and an inverse square root",
        choices=("exact", "static", "polynomial"),
    )
    sites: str = option(
        "all",
        help="approximate all activations and norms, or only those of inner values, which nothing else reads",
        choices=("all", "inner"),
    )
    degree: int | None = option(
        None, help="one degree for every polynomial", unset="7, or what the backend recommends", at_least=1, at_most=MOST_DEGREE
    )
    budget_db: float | None = option(None, help="least PSNR of the result in dB; degrees of the least total depth are chosen")
    total_depth: int | None = option(
        None, help="largest depth of all polynomials together; degrees with the best result are chosen", at_least=1
    )
    clamp: bool = option(False, help="clip the arguments of polynomials to their range, at the client")

    @property
    def changes(self) -> bool:
        """True if anything is approximated."""
        return self.activations != "exact" or self.norms != "exact"

    def idle(self) -> Sequence[Idle]:
        idle = []
        if self.activations == "exact":
            names = ("degree", "budget_db", "total_depth", "clamp")
            idle.append(Idle(names, "it concerns polynomials, but activations stay exact", "--activations polynomial"))
            if self.norms == "polynomial":
                reason = "their inverse square roots count as activations, which stay exact"
                idle.append(Idle(("norms",), reason, "--activations polynomial"))
        if not self.changes:
            idle.append(Idle(("sites",), "activations and norms stay exact", "--activations polynomial"))
        return idle
