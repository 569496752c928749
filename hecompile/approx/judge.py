"""How much the result minds each site's polynomial: measured, one site at a time and all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import fx

from hecompile.approx.fits import Floats, depth
from hecompile.approx.tables import Fitter
from hecompile.approx.trial import Replacement, Trial, psnr_db
from hecompile.calibration import Call, timestep_bin
from hecompile.ir.graph import ModelGraph

__all__ = ["DEGREES", "Judge"]

DEGREES = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 19, 23, 27, 31)
TRIED_DEGREE = 3  # whose error probes the sensitivity


class Judge:
    """Runs the trial with polynomials in place of sites. `reference` is the exact network's result."""

    def __init__(self, graph: ModelGraph, reference: Floats, trial: Trial, fitter: Fitter) -> None:
        self.graph, self.reference, self.trial, self.fitter = graph, reference, trial, fitter
        self._exact = trial.run(graph)  # with its norms as they are now
        self._damage: dict[tuple[str, int], float] = {}

    def _replaced(self, degrees: Mapping[str, int]) -> dict[str, tuple[str, Replacement]]:
        sites = self.fitter.sites
        return {name: (sites[name].argument.name, self.fitter.table(name, degree)) for name, degree in degrees.items()}

    def psnr_db(self, degrees: Mapping[str, int]) -> float:
        """Of the result with these degrees, by site, against the exact network."""
        return psnr_db(self.reference, self.trial.run(self.graph, self._replaced(degrees)))

    def least_damage(self) -> float:
        """Mean squared error of the norms alone."""
        return float(np.mean((self._exact - self.reference) ** 2))

    def damage(self, name: str, degree: int) -> float:
        """Mean squared error of the result that one site's polynomial makes.

        Measured for the largest degree of each depth; for others in proportion to the error of the fit.
        """
        full = 2 ** depth(degree) - 1
        key = (name, full)
        if key not in self._damage:
            found = self.trial.run(self.graph, self._replaced({name: full}))
            self._damage[key] = float(np.mean((found - self._exact) ** 2))
        if degree == full:
            return self._damage[key]
        errors = [float(np.mean(self.fitter.errors(name, each))) for each in (degree, full)]
        return self._damage[key] * errors[0] / max(errors[1], 1e-30)

    def damages(self, degrees: Sequence[int] = DEGREES) -> Floats:
        """(sites, degrees)."""
        return np.array([[self.damage(name, degree) for degree in degrees] for name in self.fitter.sites])

    def sensitivity(self, calls: Iterable[Call], bins: int) -> dict[str, Floats]:
        """By site and bin: RMS change of the model's output over the RMS change of the site's, for the error of a low degree."""
        changes = {name: np.zeros((2, bins)) for name in self.fitter.sites}
        for call in calls:
            inputs = [torch.from_numpy(np.asarray(call.inputs[spec.name])) for spec in self.graph.inputs]
            with torch.no_grad():
                exact = fx.Interpreter(self.graph.graph_module, garbage_collect_values=False)
                output = exact.run(*inputs)[0]
                for name, site in self.fitter.sites.items():
                    table = self.fitter.table(name, TRIED_DEGREE)
                    value = table(exact.env[site.argument], torch.tensor(call.t))
                    own = float((value - exact.env[site.node]).double().square().sum())
                    run = fx.Interpreter(self.graph.graph_module, garbage_collect_values=False)
                    run.env = {node: exact.env[node] for node in self.graph.nodes[: self._place(name)]} | {site.node: value}
                    changed = _resumed(run, self.graph, self._place(name) + 1) - output
                    changes[name][:, timestep_bin(call.t, bins)] += float(changed.double().square().sum()), own
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: np.sqrt(change / own) for name, (change, own) in changes.items()}

    def _place(self, name: str) -> int:
        return next(place for place, node in enumerate(self.graph.nodes) if node.name == name)


def _resumed(run: fx.Interpreter, graph: ModelGraph, place: int) -> torch.Tensor:
    """The first output, computed from the nodes of `place` on."""
    for node in graph.nodes[place:]:
        run.env[node] = run.run_node(node)
    by_name = {node.name: node for node in graph.nodes}
    result: torch.Tensor = run.env[by_name[graph.outputs[0]]]
    return result
