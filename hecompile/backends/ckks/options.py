"""The options of the `ckks` backend and of its simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from hecompile.errors import Diagnostic
from hecompile.panels import Chosen, Panel, option

__all__ = ["CkksOptions"]


@dataclass(frozen=True)
class CkksOptions(Panel):
    """What a region's keys may take. Polynomials of degree 2 between two layers are what regions are made of."""

    recommends: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"activations": "polynomial", "norms": "static", "sites": "inner", "degree": 2}
    )

    key_mib: float | None = option(
        None, help="most MiB of a region's keys, for more rotations", unset="what a server takes", above=0
    )

    def judge(self, chosen: Chosen) -> list[Diagnostic]:
        findings = []
        if chosen.value("activations") == "exact":
            findings.append(
                Diagnostic(
                    "exact activations leave nothing for ckks, whose regions lie around polynomials",
                    help="leave --activations away, or use --backend bfv",
                )
            )
        if "most_distortion" in chosen.given:
            findings.append(Diagnostic("the distortion of ckks regions is not priced", help="leave --most-distortion away"))
        return findings
