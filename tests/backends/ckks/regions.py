"""The one region of the network `WithPolynomials`, and values for it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from hecompile.compiler import Compiled
from hecompile.ir.linear import Array
from hecompile.ir.ops import POLYNOMIAL
from hecompile.ir.regions import SubgraphRegion
from tests.programs import program_of


def polynomial_region(compiled: Compiled) -> SubgraphRegion:
    """The region that holds polynomials."""
    regions = [region for region in program_of(compiled).calls.values() if isinstance(region, SubgraphRegion)]
    assert len(regions) == 1
    return regions[0]


def values(compiled: Compiled, region: SubgraphRegion, batch: int, seed: int = 0) -> list[Array]:
    """Inputs of the region, by running the program on noise."""
    rng = np.random.default_rng(seed)
    inputs = {
        "sample": rng.standard_normal((batch, 1, 4, 4)).astype(np.float32),
        "timestep": np.float32(rng.integers(0, 1000)),
    }
    computed = program_of(compiled).run({name: np.asarray(value) for name, value in inputs.items()})
    return [np.asarray(computed[name]) for name in region.inputs]


def with_degree(region: SubgraphRegion, degree: int) -> SubgraphRegion:
    """The region with other polynomials: SiLU of this degree, interpolated on the same ranges."""
    module = copy.deepcopy(region.graph_module)
    for node in module.graph.nodes:
        if str(node.target) == POLYNOMIAL:
            low, high = (getattr(module, str(argument.target)).double().numpy() for argument in node.args[2:4])
            rows = [_silu(*bounds, degree) for bounds in zip(low, high, strict=True)]
            setattr(module, str(node.args[4].target), torch.tensor(np.stack(rows), dtype=torch.float32))
    return replace(region, graph_module=module)


def _silu(low: float, high: float, degree: int) -> Array:
    middle, half = (high + low) / 2, (high - low) / 2
    return np.polynomial.chebyshev.chebinterpolate(lambda x: (x * half + middle) / (1 + np.exp(-x * half - middle)), degree)
