"""What the client can see of values that left their range: what it clips, and answers that no value in range gives.

Between two answers the client sees no argument of a polynomial. But a polynomial outside its range explodes, and so does an answer
that a modulus no longer holds: what comes back is then far beyond everything that the region's outputs were in calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hecompile.backends.ckks.layout import INPUT_RANGE
from hecompile.backends.ckks.program import SlotProgram
from hecompile.ir.halves import Array

if TYPE_CHECKING:
    from hecompile.backends.ckks.document import SlotDocument

__all__ = ["ANSWER_FACTOR", "MOST_ERROR", "excursions"]

ANSWER_FACTOR = 4.0  # beyond so many times an output's range a polynomial left its own
MOST_ERROR = 0.25  # of a region's outputs, in their own units: beyond it a region is refused
HELP = "compile with --calibration of calls like these, a higher --degree, or the layer's norm exact"


def excursions(document: SlotDocument, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
    """A sentence for every input that was clipped and every output far outside its range, naming layers; never a value.

    Args:
        values: the inputs in the document's order; a batch along the first dimension, as of `outputs`.
    """
    found, program = [], document.body.program
    pieces = {piece.input for upload in document.body.uploads for piece in upload.pieces}
    for name, value in zip(document.inputs, values, strict=True):
        if name in pieces and not np.abs(value).max() <= INPUT_RANGE:
            found.append(f"region '{document.region}': '{name}' left [-{INPUT_RANGE:g}, {INPUT_RANGE:g}] and was clipped: {HELP}")
    ranges = {op.label: op.range for op in program.ops if op.kind == "output"}
    for name, output in zip(document.outputs, outputs, strict=True):
        if not np.abs(output).max() <= ANSWER_FACTOR * ranges[name] + MOST_ERROR:
            layers = ", ".join(_layers(program, name)) or name
            found.append(
                f"region '{document.region}': '{name}' came back {ANSWER_FACTOR:g} times beyond its range of {ranges[name]:.3g}, "
                f"so a polynomial (layers {layers}) left its own: {HELP}"
            )
    return tuple(found)


def _layers(program: SlotProgram, output: str) -> list[str]:
    """The layers whose polynomials an output is made from, in order."""
    made = {op.name: op for op in program.ops if op.kind != "output"}
    stack = [next(op for op in program.ops if op.kind == "output" and op.label == output)]
    seen, labels = set[str](), set[str]()
    while stack:
        op = stack.pop()
        if op.kind == "polynomial":
            labels.add(op.label)
        fresh = [name for name in op.args if name not in seen]
        seen.update(fresh)
        stack += [made[name] for name in fresh]
    return [op.label for op in program.ops if op.kind == "polynomial" and op.label in labels]
