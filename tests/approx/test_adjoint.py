"""First-order effects against measured ones, on networks where first order is all there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx

from hecompile.approx.adjoint import white_sensitivity
from hecompile.approx.degrees import uniform
from hecompile.approx.quality import DEGREES, Quality
from hecompile.approx.sites import find_sites
from hecompile.approx.tables import Fitter
from hecompile.approx.validation import ValidationRun
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
def quality() -> Quality:
    generator = torch.Generator().manual_seed(0)
    calls = Calibration(tuple(Call({"x": torch.randn(20, 6, generator=generator).numpy()}) for _ in range(3)))
    graph, validation = marked(Sum().eval(), {"x": torch.zeros(2, 6)}), ValidationRun(calls, None)
    sites = find_sites(graph)
    statistics = collect(graph, calls, {site.argument.name for site in sites}, 1)
    return Quality(graph, validation.run(graph), validation, Fitter(sites, statistics))


def measured(quality: Quality, degrees: dict[str, int]) -> float:
    """Mean squared error of the validation run with polynomials at these sites only."""
    sites, fitter = quality.fitter.sites, quality.fitter
    replaced = {name: (sites[name].argument.name, fitter.table(name, degree)) for name, degree in degrees.items()}
    return float(np.mean((quality.validation.run(quality.graph, replaced) - quality.reference) ** 2))


def test_effects_are_the_errors_that_polynomials_make(quality: Quality) -> None:
    """Signs square to one: with one output per entry the estimate is exact."""
    assert quality.effects.keys() == quality.fitter.sites.keys()
    for row, name in zip(quality.distortions(), quality.fitter.sites, strict=True):
        for degree in (1, 3, 5):
            assert row[DEGREES.index(degree)] == pytest.approx(measured(quality, {name: degree}), rel=1e-3)


def test_effects_of_several_sites_add_up_before_they_are_squared(quality: Quality) -> None:
    place = DEGREES.index(3)
    together = sum(rows[place] for rows in quality.effects.values())
    assert np.mean(np.square(together)) == pytest.approx(measured(quality, uniform(quality, 3)), rel=1e-3)
    assert quality.distortions()[:, place].sum() != pytest.approx(measured(quality, uniform(quality, 3)), rel=1e-2)


def test_white_sensitivity_is_that_of_the_jacobian(quality: Quality) -> None:
    """For a linear layer with one output it is the norm of the weights over the square root of their number."""
    nodes: list[fx.Node] = [site.node for site in quality.fitter.sites.values()]
    sensitivities = white_sensitivity(quality.graph, quality.validation.calls, nodes, 1)
    layers = Sum()
    for row, layer in zip(sensitivities, (layers.first, layers.second), strict=True):
        assert row[0] == pytest.approx(float(layer.weight.detach().norm()) / 6**0.5, rel=1e-5)
