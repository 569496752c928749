"""The polynomials of a site, one for each timestep bin: their ranges from the calibration, their coefficients from a fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hecompile.approx.fits import Density, Fit, Floats, mean_square_error, weighted
from hecompile.approx.ranges import ranges
from hecompile.approx.sites import POSITIVE, Site
from hecompile.calibration import NodeStatistics, Statistics
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.printing import print_node

__all__ = ["Fitter", "PolynomialTable", "densities"]


@dataclass(frozen=True, eq=False)
class PolynomialTable:
    """The table that the operator `hecompile.polynomial` reads: range and coefficients, one row per timestep bin."""

    low: Floats  # (bins)
    high: Floats  # (bins)
    coefficients: Floats  # (bins, degree + 1)

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`low`, `high` and `coefficients` as float32 tensors."""
        low, high, coefficients = (torch.from_numpy(np.float32(rows)) for rows in (self.low, self.high, self.coefficients))
        return low, high, coefficients

    @property
    def degree(self) -> int:
        """The degree of all its polynomials."""
        return int(self.coefficients.shape[1]) - 1

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.hecompile.polynomial(x, t, *self.tensors)
        return result


def nearest_filled(counts: Floats) -> list[int]:
    """For each bin the nearest bin that has calls, which usually is the bin itself."""
    filled = np.flatnonzero(counts)
    return [int(filled[np.argmin(np.abs(filled - place))]) for place in range(len(counts))]


def densities(site: Site, statistics: NodeStatistics) -> list[Density]:
    """The density of a site's argument in each bin.

    Raises:
        CompileError: for a reciprocal or inverse square root whose argument is not always positive.
    """
    filled = nearest_filled(statistics.count)
    if site.function in POSITIVE and not statistics.low[filled].min() > 0:
        raise CompileError(
            Diagnostic(
                f"{site.name}: values reach down to {statistics.low[filled].min():.3g}, where {site.function} has no polynomial",
                line=print_node(site.node),
                help="keep it at the client: write it as a division, or use --activations exact",
            )
        )
    pairs = ranges(statistics, filled, site.function in POSITIVE)
    return [Density(*pair, statistics.edges, statistics.histogram[place]) for pair, place in zip(pairs, filled, strict=True)]


class Fitter:
    """The tables of all sites and degrees, each fitted by `fit` when it is first asked for."""

    def __init__(self, sites: list[Site], statistics: Statistics, fit: Fit = weighted) -> None:
        self.sites, self._fit = {site.name: site for site in sites}, fit
        self.densities = {site.name: densities(site, statistics[site.argument.name]) for site in sites}
        self._tables: dict[tuple[str, int], PolynomialTable] = {}

    def table(self, name: str, degree: int) -> PolynomialTable:
        """The table of polynomials of this degree for a site."""
        key = (name, degree)
        if key not in self._tables:
            bins, function = self.densities[name], self.sites[name].exact
            rows = [self._fit(function, density, degree) for density in bins]
            low, high = (np.array([getattr(density, end) for density in bins]) for end in ("low", "high"))
            self._tables[key] = PolynomialTable(low, high, np.stack(rows))
        return self._tables[key]

    def errors(self, name: str, degree: int) -> Floats:
        """The mean squared error of a site's polynomials over the data of each bin (bins)."""
        rows = self.table(name, degree).coefficients
        function = self.sites[name].exact
        pairs = zip(self.densities[name], rows, strict=True)
        return np.array([mean_square_error(function, density, row) for density, row in pairs])
