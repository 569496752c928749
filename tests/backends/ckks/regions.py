"""The one region of the chained network, and values for it."""

from __future__ import annotations

import numpy as np

from hecompile.compiler import Compiled
from hecompile.ir.regions import SubgraphRegion


def chain_region(compiled: Compiled) -> SubgraphRegion:
    """The region that holds polynomials."""
    found = [region for region in compiled.program.calls.values() if isinstance(region, SubgraphRegion)]
    assert len(found) == 1
    return found[0]


def values(compiled: Compiled, region: SubgraphRegion, batch: int, seed: int = 0) -> list[np.ndarray]:
    """Inputs of the region, by running the program on noise."""
    rng = np.random.default_rng(seed)
    inputs = {
        "sample": rng.standard_normal((batch, 1, 4, 4)).astype(np.float32),
        "timestep": np.float32(rng.integers(0, 1000)),
    }
    found = compiled.program.run({name: np.asarray(value) for name, value in inputs.items()})
    return [np.asarray(found[name]) for name in region.inputs]
