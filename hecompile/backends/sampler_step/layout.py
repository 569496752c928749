"""The core's view of a sampler's step: pairs of polynomials, of x and of e, that share a secret and become one answer."""

from __future__ import annotations

import numpy as np

from hecompile import _core
from hecompile.backends.sampler_step.program import AffineProgram
from hecompile.errors import ProtocolError

__all__ = ["core_layout"]


def core_layout(program: AffineProgram, pairs: int) -> _core.Layout:
    """Every coefficient carries an entry: a picture of one column. Raises `ProtocolError` for numbers that make no ring."""
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
