"""A lowered region on disk: one JSON document, the same in both halves, and the server's tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from hecompile.backends.ckks.judge_program import judge_program
from hecompile.backends.ckks.layout import Grid, Result, Upload
from hecompile.backends.ckks.program import SlotProgram, parse_program, print_program
from hecompile.backends.program_io import judge_batch, judge_names, read_program
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, Half
from hecompile.ir.timesteps import TRAIN_STEPS, timestep_bin

if TYPE_CHECKING:
    from hecompile.backends.ckks.lower import Lowering

__all__ = ["Document", "document_of", "read_document", "read_tables"]

MOST_CIPHERTEXTS = 256  # of a request or a reply, per element of the batch


@dataclass(frozen=True)
class Document:
    """A region: what it reads and makes, where that lies in slots, and the slot program as text."""

    region: str
    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_batch: int
    timestep: str | None  # the input that chooses the row of the tables
    bins: int
    layers: int
    grid: Grid
    uploads: tuple[Upload, ...]
    results: tuple[Result, ...]
    text: str

    @cached_property
    def program(self) -> SlotProgram:
        return parse_program(self.text)

    def row(self, t: float) -> int:
        """The row of a timestep."""
        return timestep_bin(t, self.bins) if np.isfinite(t) else 0

    def judged_row(self, row: int) -> int:
        """A row that a request names. Raises `ProtocolError` if the tables have none."""
        if not 0 <= row < self.bins:
            raise ProtocolError(f"region '{self.region}': row {row} of tables with {self.bins}")
        return row

    def judge_batch(self, batch: int) -> None:
        judge_batch(batch, self.max_batch)


_DOCUMENT = pydantic.TypeAdapter(Document)


def document_of(
    lowering: Lowering, region: str, backend: str, inputs: tuple[str, ...], max_batch: int, timestep: str | None,
    bins: int, layers: int,
) -> dict[str, object]:  # fmt: skip
    """The JSON document of a lowered region."""
    document = Document(
        region, backend, inputs, tuple(result.output for result in lowering.results), max_batch, timestep, bins, layers,
        lowering.grid, lowering.uploads, lowering.results, print_program(lowering.program),
    )  # fmt: skip
    return asdict(document)


def read_document(half: Half) -> Document:
    """The document of a half, checked. Raises `ProtocolError`."""
    document = read_program(_DOCUMENT, half)
    judge_names(document)
    program, slots = document.program, document.program.ring.slots
    judge_program(program)
    made = [op.name for op in program.ops if op.kind == "input"]
    outputs = [op for op in program.ops if op.kind == "output"]
    sent = {op.label: op for op in outputs}
    reads = {piece.input for upload in document.uploads for piece in upload.pieces} | {document.timestep} - {None}
    problems = []
    if sorted(made) != sorted(upload.name for upload in document.uploads) or len(sent) != len(outputs):
        problems.append("inputs or outputs that its slot program does not have, or has twice")
    if set(sent) != set(document.outputs):
        problems.append("outputs that its slot program does not have")
    if not reads <= set(document.inputs) or tuple(result.output for result in document.results) != document.outputs:
        problems.append("inputs or outputs without a layout")
    if not 1 <= document.bins <= TRAIN_STEPS or not 0 <= document.layers < 1 << 31:
        problems.append("sizes out of range")
    if min(document.grid.rows, document.grid.columns) < 1 or document.grid.area > slots:
        problems.append("a grid out of range")
    if not 1 <= len(document.uploads) <= MOST_CIPHERTEXTS or len(document.results) > MOST_CIPHERTEXTS:
        problems.append("no ciphertexts, or too many")
    if problems:
        raise ProtocolError(f"region '{document.region}' has {', '.join(problems)}")
    for upload in document.uploads:
        _judge_upload(document, upload)
    for result in document.results:
        if min(result.shape) < 1 or result.shape[0] * document.grid.area > slots:
            raise ProtocolError(f"region '{document.region}': {result.output} does not fit {slots} slots")
        if document.grid.slots(result.shape).max() >= slots:
            raise ProtocolError(f"region '{document.region}': {result.output} does not fit {slots} slots")
        if (result.level, result.scale) != (sent[result.output].level, sent[result.output].scale):
            raise ProtocolError(f"region '{document.region}': {result.output} has another level than its slot program says")
    return document


def _judge_upload(document: Document, upload: Upload) -> None:
    slots = document.program.ring.slots
    op = document.program.op(upload.name)
    if (upload.level, upload.scale) != (op.level, op.scale) or not 0 <= upload.level <= document.program.ring.depth:
        raise ProtocolError(f"region '{document.region}': {upload.name} has another level than its slot program says")
    whole = 0 < upload.block <= slots and 0 < upload.period <= slots and slots % upload.period == 0
    if not whole or not upload.pieces or any(piece.copies < 1 or upload.block % piece.copies for piece in upload.pieces):
        raise ProtocolError(f"region '{document.region}': {upload.name} is laid out wrongly")
    for piece in upload.pieces:
        if piece.start < 0 or min(piece.shape) < 1 or (piece.spread and piece.shape[1:] != (1, 1)):
            raise ProtocolError(f"region '{document.region}': {piece.input} has no such shape")
        if piece.start + piece.size(upload.block, document.grid.area) > upload.period:
            raise ProtocolError(f"region '{document.region}': {piece.input} lies outside its upload")
        document.grid.slots(piece.shape)


def read_tables(half: Half, document: Document) -> dict[str, Array]:
    """The tables of a server half. Raises `ProtocolError` for one that is missing, malformed or does not fit the slots."""
    tables = dict(half.tensors)
    for name, table in tables.items():
        right = table.ndim == 2 and table.dtype in (np.float32, np.float64) and table.size > 0
        polynomial = name.startswith("p")
        if not right or not np.isfinite(table).all() or (not polynomial and document.program.ring.slots % table.shape[1]):
            raise ProtocolError(f"region '{document.region}': table '{name}' is malformed")
        if name.startswith(("p", "b", "s")) and len(table) not in (1, document.bins):
            raise ProtocolError(
                f"region '{document.region}': table '{name}' has {len(table)} rows for {document.bins} timestep bins"
            )
    return tables
