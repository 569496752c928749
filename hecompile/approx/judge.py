"""How much the result minds each site's polynomial: to first order for one site, measured for all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from hecompile.approx.adjoint import effects, white_sensitivity
from hecompile.approx.fits import Floats
from hecompile.approx.tables import Fitter
from hecompile.approx.trial import Replacement, Trial, psnr_db
from hecompile.calibration import Call
from hecompile.ir.graph import ModelGraph

__all__ = ["DEGREES", "Judge"]

DEGREES = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 19, 23, 27, 31)


class Judge:
    """Runs the trial with polynomials in place of sites. `reference` is the exact network's result."""

    def __init__(self, graph: ModelGraph, reference: Floats, trial: Trial, fitter: Fitter) -> None:
        self.graph, self.reference, self.trial, self.fitter = graph, reference, trial, fitter

    @cached_property
    def _exact(self) -> Floats:
        return self.trial.run(self.graph)  # with its norms as they are now

    def _replaced(self, degrees: Mapping[str, int]) -> dict[str, tuple[str, Replacement]]:
        sites = self.fitter.sites
        return {name: (sites[name].argument.name, self.fitter.table(name, degree)) for name, degree in degrees.items()}

    def psnr_db(self, degrees: Mapping[str, int]) -> float:
        """Of the result with these degrees, by site, against the exact network."""
        return psnr_db(self.reference, self.trial.run(self.graph, self._replaced(degrees)))

    def least_damage(self) -> float:
        """Mean squared error of the norms alone."""
        return float(np.mean((self._exact - self.reference) ** 2))

    @cached_property
    def effects(self) -> Mapping[str, Floats]:
        """By site (degrees, paths) for `DEGREES`, to first order, see `hecompile.approx.adjoint.effects`."""
        return effects(self.graph, self.trial, self._exact, self.fitter, DEGREES)

    def damages(self) -> Floats:
        """Mean squared error of the result that each site's polynomial alone makes, (sites, degrees), for `DEGREES`."""
        return np.array([np.mean(rows**2, axis=1) for rows in self.effects.values()])

    def sensitivity(self, calls: Iterable[Call], bins: int) -> dict[str, Floats]:
        """By site and bin: norm of the change of the model's output over that of the site's, where that is white noise."""
        nodes = [site.node for site in self.fitter.sites.values()]
        found = white_sensitivity(self.graph, calls, nodes, bins) if nodes else np.zeros((0, bins))
        return dict(zip(self.fitter.sites, found, strict=True))
