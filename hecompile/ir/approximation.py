"""What was approximated, how well, and what it promises: kept with the program, shown in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["Approximation", "CurvePoint", "Excursion", "RecordedCall", "SiteRecord", "Trial"]

Floats = npt.NDArray[Any]


class RecordedCall(Protocol):
    """One call of the model: its inputs by name."""

    @property
    def inputs(self) -> Mapping[str, Floats]: ...


class Trial(Protocol):
    """What an approximation was judged by (`hecompile.approx.trial`)."""

    @property
    def calls(self) -> Iterable[RecordedCall]: ...


@dataclass(frozen=True, eq=False)
class SiteRecord:
    """One site. Per-bin rows have NaN where the calibration has no calls."""

    name: str
    function: str
    path: str
    source: str
    degree: int
    depth: int
    low: float  # the least of all bins' ranges
    high: float
    rms_error: float  # of the polynomial on the calibration's values
    sensitivity: tuple[float, ...]  # per bin: RMS change of the model's output over that of the site
    histogram: tuple[float, ...]  # of the site's argument, all bins together, from the least value to the largest


@dataclass(frozen=True)
class Excursion:
    """Values of one site and bin that lay outside the polynomial's range, with the farthest."""

    site: str
    bin: int
    count: int
    value: float
    low: float
    high: float
    call: int  # which call of the run, from 0
    sample: int  # which entry of its batch

    def __str__(self) -> str:
        return (
            f"{self.site}, timestep bin {self.bin}: {self.count} values outside [{self.low:.4g}, {self.high:.4g}], "
            f"farthest {self.value:.4g} at call {self.call}, sample {self.sample}"
        )


@dataclass(frozen=True)
class CurvePoint:
    """One setting of the plot of dB against depth. `degree` is None for degrees spent by the error budget."""

    degree: int | None
    total_depth: int
    psnr_db: float


@dataclass(frozen=True, eq=False)
class Approximation:
    """A whole network's. `promised_db` is what the network keeps to on the trial, `measured_db` what it reached there."""

    norms: str
    promised_db: float
    measured_db: float
    sites: tuple[SiteRecord, ...]
    excursions: tuple[Excursion, ...]
    curve: tuple[CurvePoint, ...]
    trial: Trial
    example: Mapping[str, Floats]  # inputs of one call that lie where the polynomials hold

    @property
    def total_depth(self) -> int:
        return sum(site.depth for site in self.sites)
