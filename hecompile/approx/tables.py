"""A site's polynomials over timestep bins: ranges from the calibration, coefficients from a fit."""

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

__all__ = ["Fitter", "Table", "densities"]


@dataclass(frozen=True, eq=False)
class Table:
    """What the operator `hecompile.polynomial` reads."""

    low: Floats  # (bins)
    high: Floats  # (bins)
    coefficients: Floats  # (bins, degree + 1)

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high, coefficients = (torch.from_numpy(np.float32(each)) for each in (self.low, self.high, self.coefficients))
        return low, high, coefficients

    @property
    def degree(self) -> int:
        return int(self.coefficients.shape[1]) - 1

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.hecompile.polynomial(x, t, *self.tensors)
        return result


def nearest_filled(counts: Floats) -> list[int]:
    """For each bin the nearest that calls fell into: itself, as a rule."""
    filled = np.flatnonzero(counts)
    return [int(filled[np.argmin(np.abs(filled - place))]) for place in range(len(counts))]


def densities(site: Site, found: NodeStatistics) -> list[Density]:
    """One per bin. Raises `CompileError` for a reciprocal whose range holds zero."""
    filled = nearest_filled(found.count)
    if site.function in POSITIVE and not found.low[filled].min() > 0:
        raise CompileError(
            Diagnostic(
                f"{site.name}: values reach down to {found.low[filled].min():.3g}, no polynomial is a {site.function} there",
                line=print_node(site.node),
                help="keep it at the client: write it as a division, or leave --activations exact",
            )
        )
    pairs = ranges(found, filled, site.function in POSITIVE)
    return [Density(*pair, found.edges, found.histogram[place]) for pair, place in zip(pairs, filled, strict=True)]


class Fitter:
    """Tables by site and degree, each fitted once. `fit` finds the coefficients."""

    def __init__(self, sites: list[Site], statistics: Statistics, fit: Fit = weighted) -> None:
        self.sites, self._fit = {site.name: site for site in sites}, fit
        self.densities = {site.name: densities(site, statistics[site.argument.name]) for site in sites}
        self._tables: dict[tuple[str, int], Table] = {}

    def table(self, name: str, degree: int) -> Table:
        """The polynomials of this degree for a site."""
        key = (name, degree)
        if key not in self._tables:
            found, function = self.densities[name], self.sites[name].exact
            rows = [self._fit(function, density, degree) for density in found]
            low, high = (np.array([getattr(density, end) for density in found]) for end in ("low", "high"))
            self._tables[key] = Table(low, high, np.stack(rows))
        return self._tables[key]

    def errors(self, name: str, degree: int) -> Floats:
        """Mean squared error over the data, (bins)."""
        rows = self.table(name, degree).coefficients
        function = self.sites[name].exact
        return np.array([mean_square_error(function, each, row) for each, row in zip(self.densities[name], rows, strict=True)])
