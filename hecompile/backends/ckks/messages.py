"""Turns a batch of pictures into vectors of slots and back, for `ckks` and its simulation alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.document import SlotDocument
from hecompile.backends.ckks.layout import Upload
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import LARGEST
from hecompile.ir.halves import Array

__all__ = ["placed", "read", "row_of"]

Vector = npt.NDArray[np.float64]


def row_of(document: SlotDocument, named: Mapping[str, Array]) -> int:
    """The row of the timestep tables, which is all that the server learns of it. Regions without a timestep use row 0."""
    return 0 if document.body.timestep is None else document.body.row(float(named[document.body.timestep]))


def placed(document: SlotDocument, upload: Upload, named: Mapping[str, Array], element: int, limit: float) -> Vector:
    """All slots (slots) of an upload for one element of the batch.

    Values beyond [-limit, limit] are clipped and NaN becomes zero, so that a server learns nothing from refusals of such values.

    Raises:
        ProtocolError: if a value's shape is not that of the layout.
    """
    values = {}
    for piece in upload.pieces:
        value = named[piece.input]
        if value.ndim < 1 or not (len(value) == 1 or element < len(value)) or value[0].size != math.prod(piece.shape):
            raise ProtocolError(
                f"region '{document.region}': {piece.input} has shape {value.shape}, but the region expects {piece.shape}"
            )
        picture = value[element if len(value) > 1 else 0].astype(np.float64)
        values[piece.input] = np.clip(np.nan_to_num(picture, nan=0.0, posinf=limit, neginf=-limit), -limit, limit)
    vector = upload.vector(values, document.body.grid)
    return np.tile(vector, document.body.program.ring.slots // upload.period)


def read(document: SlotDocument, vectors: Vector) -> list[Array]:
    """Read the outputs, float32 (batch, C, H, W) each, from the slots of the answers (batch, results, slots)."""
    outputs: list[Array] = []
    for place, result in enumerate(document.body.results):
        slots = document.body.grid.slots(result.shape)
        entries = np.clip(vectors[:, place][:, slots], -LARGEST, LARGEST)
        outputs.append(entries.reshape(-1, *result.shape).astype(np.float32))
    return outputs
