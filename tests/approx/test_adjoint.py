"""First-order effects against measured ones, on networks where first order is all there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx

from hecompile.approx.adjoint import white_sensitivity
from hecompile.approx.judge import DEGREES, Judge
from hecompile.approx.sites import find_sites
from hecompile.approx.spend import uniform
from hecompile.approx.tables import Fitter
from hecompile.approx.trial import Trial
from hecompile.calibration import Calibration, Call, collect
from tests.approx.networks import marked


class Sum(torch.nn.Module):
    """One number per entry, linear in what two activations give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(6, 1), torch.nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(torch.nn.functional.silu(x)) + self.second(torch.nn.functional.gelu(2 * x))


@pytest.fixture(scope="module")
def judge() -> Judge:
    generator = torch.Generator().manual_seed(0)
    calls = Calibration(tuple(Call({"x": torch.randn(20, 6, generator=generator).numpy()}) for _ in range(3)))
    graph, trial = marked(Sum().eval(), {"x": torch.zeros(2, 6)}), Trial(calls, None)
    sites = find_sites(graph)
    statistics = collect(graph, calls, {site.argument.name for site in sites}, 1)
    return Judge(graph, trial.run(graph), trial, Fitter(sites, statistics))


def measured(judge: Judge, degrees: dict[str, int]) -> float:
    """Mean squared error of the trial with polynomials at these sites only."""
    sites, fitter = judge.fitter.sites, judge.fitter
    replaced = {name: (sites[name].argument.name, fitter.table(name, degree)) for name, degree in degrees.items()}
    return float(np.mean((judge.trial.run(judge.graph, replaced) - judge.reference) ** 2))


def test_effects_are_the_errors_that_polynomials_make(judge: Judge) -> None:
    """Signs square to one: with one output per entry the estimate is exact."""
    assert judge.effects.keys() == judge.fitter.sites.keys()
    for row, name in zip(judge.damages(), judge.fitter.sites, strict=True):
        for degree in (1, 3, 5):
            assert row[DEGREES.index(degree)] == pytest.approx(measured(judge, {name: degree}), rel=1e-3)


def test_effects_of_several_sites_add_up_before_they_are_squared(judge: Judge) -> None:
    place = DEGREES.index(3)
    together = sum(rows[place] for rows in judge.effects.values())
    assert np.mean(np.square(together)) == pytest.approx(measured(judge, uniform(judge, 3)), rel=1e-3)
    assert judge.damages()[:, place].sum() != pytest.approx(measured(judge, uniform(judge, 3)), rel=1e-2)


def test_white_sensitivity_is_that_of_the_jacobian(judge: Judge) -> None:
    """Of a linear layer with one output: the norm of its weights over the root of their number."""
    nodes: list[fx.Node] = [site.node for site in judge.fitter.sites.values()]
    found = white_sensitivity(judge.graph, judge.trial.calls, nodes, 1)
    layers = Sum()
    for row, layer in zip(found, (layers.first, layers.second), strict=True):
        assert row[0] == pytest.approx(float(layer.weight.detach().norm()) / 6**0.5, rel=1e-5)
