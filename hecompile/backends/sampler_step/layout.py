"""The layout of a sampler's step in the core: a polynomial of x and one of e share a secret, and become one answer."""

from __future__ import annotations

import numpy as np

from hecompile import _core
from hecompile.backends.sampler_step.program import SamplerStepProgram
from hecompile.errors import ProtocolError

__all__ = ["core_layout"]


def core_layout(program: SamplerStepProgram, pairs: int) -> _core.Layout:
    """The layout for this many pairs; every coefficient holds an entry. Raises `ProtocolError` if the parameters make no ring."""
    body, dimension = program.body, program.body.parameters.dimension
    try:
        return _core.make_layout(
            dimension,
            body.q,
            body.parameters.t_bits,
            pairs,
            (2, dimension, 1),
            (1, dimension, 1),
            np.zeros((1, 2), np.int32),
            (1, dimension, 1, 1),
            (body.drops.b, body.drops.a),
        )
    except ValueError as error:
        raise ProtocolError(f"region '{program.region}': {error}") from error
