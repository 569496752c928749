"""How good the result is with polynomials: predicted to first order for each site, and measured for all sites together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from hecompile.approx.adjoint import effects, white_sensitivity
from hecompile.approx.fits import Floats
from hecompile.approx.tables import Fitter
from hecompile.approx.validation import Replacement, ValidationRun, psnr_db
from hecompile.calibration import Call
from hecompile.ir.graph import ModelGraph

__all__ = ["DEGREES", "Quality"]

DEGREES = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 19, 23, 27, 31)


class Quality:
    """Measures and predicts errors of the validation run with polynomials in place of sites.

    `reference` is the result of the exact network.
    """

    def __init__(self, graph: ModelGraph, reference: Floats, validation: ValidationRun, fitter: Fitter) -> None:
        self.graph, self.reference, self.validation, self.fitter = graph, reference, validation, fitter

    @cached_property
    def _exact(self) -> Floats:
        """The result of the validation run with exact activations, and with norms replaced."""
        return self.validation.run(self.graph)  # with norms replaced, but exact activations

    def _replaced(self, degrees: Mapping[str, int]) -> dict[str, tuple[str, Replacement]]:
        """For each site its argument's name and its polynomial, as the validation run takes them."""
        sites = self.fitter.sites
        return {name: (sites[name].argument.name, self.fitter.table(name, degree)) for name, degree in degrees.items()}

    def psnr_db(self, degrees: Mapping[str, int]) -> float:
        """The PSNR in dB of the result with these degrees, by site, against the exact network."""
        return psnr_db(self.reference, self.validation.run(self.graph, self._replaced(degrees)))

    def least_distortion(self) -> float:
        """The mean squared error that replacing norms alone causes."""
        return float(np.mean((self._exact - self.reference) ** 2))

    @cached_property
    def effects(self) -> Mapping[str, Floats]:
        """The predicted effects of each site (degrees, paths) for `DEGREES`, see `hecompile.approx.adjoint.effects`."""
        return effects(self.graph, self.validation, self._exact, self.fitter, DEGREES)

    def distortions(self) -> Floats:
        """The mean squared error of the result that each site's polynomial alone causes (sites, degrees), for `DEGREES`."""
        return np.array([np.mean(rows**2, axis=1) for rows in self.effects.values()])

    def sensitivity(self, calls: Iterable[Call], bins: int) -> dict[str, Floats]:
        """For each site and timestep bin: how much white noise at the site changes the output, as the ratio of norms."""
        nodes = [site.node for site in self.fitter.sites.values()]
        ratios = white_sensitivity(self.graph, calls, nodes, bins) if nodes else np.zeros((0, bins))
        return dict(zip(self.fitter.sites, ratios, strict=True))
