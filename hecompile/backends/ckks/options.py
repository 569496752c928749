"""The options of the `ckks` backend and of its simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from hecompile.errors import Diagnostic
from hecompile.panels import AllOptions, Panel, option

__all__ = ["CkksOptions"]


@dataclass(frozen=True)
class CkksOptions(Panel):
    """How much memory a region's evaluation keys may take. The backend recommends polynomials of degree 2 for inner values."""

    recommends: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"activations": "polynomial", "norms": "static", "sites": "inner", "degree": 2}
    )

    key_mib: float | None = option(
        None,
        help="largest size of a region's evaluation keys in MiB; less takes more rotations",
        unset="what a server accepts",
        above=0,
    )

    def conflicts(self, options: AllOptions) -> list[Diagnostic]:
        findings = []
        if options.value("activations") == "exact":
            findings.append(
                Diagnostic(
                    "with exact activations there is nothing for ckks to run: its regions are built around polynomials",
                    help="leave out --activations, or use --backend bfv",
                )
            )
        if "most_distortion" in options.given:
            findings.append(Diagnostic("there is no prediction of distortion for ckks regions", help="leave out --most-distortion"))
        return findings
