"""Finds signs that values left their range: inputs that the client clips, and outputs far beyond those of calibration.

Within a region the client sees no argument of a polynomial. But a polynomial outside its range gives huge values, and so does a
result that is too large for the modulus. The outputs are then far beyond all that the region's outputs were in calibration.
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

__all__ = ["ANSWER_FACTOR", "MOST_ERROR", "out_of_range"]

ANSWER_FACTOR = 4.0  # times an output's range: beyond it a polynomial must have left its own range
MOST_ERROR = 0.25  # of a region's outputs, in their own units: a region with larger errors is refused
HELP = "compile with --calibration of calls like these, a higher --degree, or the layer's norm exact"


def out_of_range(document: SlotDocument, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
    """Return a sentence for every input that was clipped and for every output far outside its range.

    Sentences name layers, never a value.

    Args:
        values: the inputs in the document's order, with the batch as first dimension.
        outputs: the outputs in the document's order, in the same form.
    """
    sentences, program = list[str](), document.body.program
    pieces = {piece.input for upload in document.body.uploads for piece in upload.pieces}
    for name, value in zip(document.inputs, values, strict=True):
        if name in pieces and not np.abs(value).max() <= INPUT_RANGE:
            sentences.append(
                f"region '{document.region}': '{name}' left [-{INPUT_RANGE:g}, {INPUT_RANGE:g}] and was clipped: {HELP}"
            )
    ranges = {op.label: op.range for op in program.ops if op.kind == "output"}
    for name, output in zip(document.outputs, outputs, strict=True):
        if not np.abs(output).max() <= ANSWER_FACTOR * ranges[name] + MOST_ERROR:
            layers = ", ".join(_layers(program, name)) or name
            sentences.append(
                f"region '{document.region}': '{name}' came back beyond {ANSWER_FACTOR:g} times its range of {ranges[name]:.3g}, "
                f"so a polynomial (layers {layers}) left its own: {HELP}"
            )
    return tuple(sentences)


def _layers(program: SlotProgram, output: str) -> list[str]:
    """Labels of the layers whose polynomials an output depends on, in order."""
    by_name = {op.name: op for op in program.ops if op.kind != "output"}
    pending = [next(op for op in program.ops if op.kind == "output" and op.label == output)]
    seen, labels = set[str](), set[str]()
    while pending:
        op = pending.pop()
        if op.kind == "polynomial":
            labels.add(op.label)
        fresh = [name for name in op.args if name not in seen]
        seen.update(fresh)
        pending += [by_name[name] for name in fresh]
    return [op.label for op in program.ops if op.kind == "polynomial" and op.label in labels]
