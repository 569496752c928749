"""From a batch of pictures to vectors of slots and back: what `ckks` and its simulation share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.document import SlotDocument
from hecompile.backends.ckks.layout import Upload
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.readout import LARGEST

__all__ = ["placed", "read", "row_of"]

Vector = npt.NDArray[np.float64]


def row_of(document: SlotDocument, named: Mapping[str, Array]) -> int:
    """The row of the tables over the timestep, which is all that the server is told of it; zero for regions without them."""
    return 0 if document.body.timestep is None else document.body.row(float(named[document.body.timestep]))


def placed(document: SlotDocument, upload: Upload, named: Mapping[str, Array], element: int, limit: float) -> Vector:
    """All slots of an upload for one element of the batch. What is not finite or out of range is clipped: traffic must not tell."""
    values = {}
    for piece in upload.pieces:
        value = named[piece.input]
        if value.ndim < 1 or not (len(value) == 1 or element < len(value)) or value[0].size != math.prod(piece.shape):
            raise ProtocolError(f"region '{document.region}': {piece.input} of shape {value.shape} is laid out as {piece.shape}")
        one = value[element if len(value) > 1 else 0].astype(np.float64)
        values[piece.input] = np.clip(np.nan_to_num(one, nan=0.0, posinf=limit, neginf=-limit), -limit, limit)
    vector = upload.vector(values, document.body.grid)
    return np.tile(vector, document.body.program.ring.slots // upload.period)


def read(document: SlotDocument, vectors: Vector) -> list[Array]:
    """(batch, results, slots) -> the outputs, float32."""
    outputs: list[Array] = []
    for place, result in enumerate(document.body.results):
        slots = document.body.grid.slots(result.shape)
        entries = np.clip(vectors[:, place][:, slots], -LARGEST, LARGEST)
        outputs.append(entries.reshape(-1, *result.shape).astype(np.float32))
    return outputs
