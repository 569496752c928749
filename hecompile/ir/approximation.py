"""The record of an approximation: which activations became polynomials, and how close the result is. The report prints it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["Approximation", "CurvePoint", "OutOfRange", "RecordedCall", "SiteRecord", "ValidationRun"]

Floats = npt.NDArray[Any]


class RecordedCall(Protocol):
    """One call of the model: its inputs by name."""

    @property
    def inputs(self) -> Mapping[str, Floats]: ...


class ValidationRun(Protocol):
    """The calls on which the approximation was compared with the exact model (see `hecompile.approx.validation`)."""

    @property
    def calls(self) -> Iterable[RecordedCall]: ...


@dataclass(frozen=True, eq=False)
class SiteRecord:
    """One site: a place of the graph where an activation or norm became a polynomial.

    Values per timestep bin are NaN for bins in which the calibration has no calls.
    """

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
class OutOfRange:
    """How many values of one site and timestep bin lay outside the polynomial's range, and the farthest of them."""

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
    """One point of the plot of PSNR against depth. `degree` is the degree of all sites; None where every site has its own."""

    degree: int | None
    total_depth: int
    psnr_db: float


@dataclass(frozen=True, eq=False)
class Approximation:
    """The approximation of a whole network. On the validation run its result has a PSNR of `measured_db` against the exact network;
    `promised_db` is what it must have at least."""

    norms: str
    promised_db: float
    measured_db: float
    sites: tuple[SiteRecord, ...]
    out_of_range: tuple[OutOfRange, ...]
    curve: tuple[CurvePoint, ...]
    validation: ValidationRun
    example: Mapping[str, Floats]  # inputs of one call that lie where the polynomials hold

    @property
    def total_depth(self) -> int:
        return sum(site.depth for site in self.sites)
