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
        "exact", help="at the client, or as polynomials: additions and products only", choices=("exact", "polynomial")
    )
    norms: str = option(
        "exact",
        help="at the client, static: a fixed scale and shift, or polynomial: by sums",
        choices=("exact", "static", "polynomial"),
    )
    sites: str = option("all", help="which to approximate: all, or inner ones that nothing else reads", choices=("all", "inner"))
    degree: int | None = option(
        None, help="one degree for every polynomial", unset="7, or what the backend recommends", at_least=1, at_most=MOST_DEGREE
    )
    budget_db: float | None = option(None, help="least PSNR of the result in dB, with polynomials of the least depth")
    total_depth: int | None = option(None, help="most depth of all polynomials together, spent for the best result", at_least=1)
    clamp: bool = option(False, help="keep the arguments of polynomials in range, at the client")

    @property
    def changes(self) -> bool:
        """Whether anything is approximated at all."""
        return self.activations != "exact" or self.norms != "exact"

    def idle(self) -> Sequence[Idle]:
        found = []
        if self.activations == "exact":
            names = ("degree", "budget_db", "total_depth", "clamp")
            found.append(Idle(names, "it is about polynomials, and activations stay exact", "--activations polynomial"))
            if self.norms == "polynomial":
                reason = "their inverse square roots are activations, which stay exact"
                found.append(Idle(("norms",), reason, "--activations polynomial"))
        if not self.changes:
            found.append(Idle(("sites",), "activations and norms stay exact", "--activations polynomial"))
        return found
