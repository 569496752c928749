"""The document of a `ckks` region on disk, a JSON document that is the same in both halves, and the server's tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hecompile.backends.ckks.check_program import check_program
from hecompile.backends.ckks.layout import Grid, Result, Upload
from hecompile.backends.ckks.program import SlotProgram, parse_program, print_program
from hecompile.backends.program_io import Document, read_program
from hecompile.backends.tensors import check_names
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, Half
from hecompile.ir.timesteps import TRAIN_STEPS, timestep_bin

if TYPE_CHECKING:
    from hecompile.backends.ckks.lower import Lowering

__all__ = ["SlotBody", "SlotDocument", "checked_row", "document_of", "read_document", "read_tables"]

MOST_CIPHERTEXTS = 256  # of a request or of a reply, for one element of the batch


@dataclass(frozen=True)
class SlotBody:
    """What a document says of a region: where its inputs and outputs lie in slots, and the slot program as text."""

    max_batch: int
    timestep: str | None  # the input that chooses the row of the tables, if there is one
    bins: int
    layers: int
    grid: Grid
    uploads: tuple[Upload, ...]
    results: tuple[Result, ...]
    text: str

    @cached_property
    def program(self) -> SlotProgram:
        """The slot program, parsed. Raises `ProtocolError` if the text is not a slot program."""
        return parse_program(self.text)

    def check(self, document: Document[Any]) -> None:
        """Raise `ProtocolError` unless the slot program, the layouts and the names fit each other."""
        region, program, slots = document.region, self.program, self.program.ring.slots
        check_program(program)
        if problems := self._problems(document):
            raise ProtocolError(f"region '{region}' has {', '.join(problems)}")
        for upload in self.uploads:
            self._check_upload(region, upload)
        sent = {op.label: op for op in program.ops if op.kind == "output"}
        for result in self.results:
            fits = min(result.shape) >= 1 and result.shape[0] * self.grid.area <= slots
            if not fits or self.grid.slots(result.shape).max() >= slots:
                raise ProtocolError(f"region '{region}': {result.output} does not fit {slots} slots")
            if (result.level, result.scale) != (sent[result.output].level, sent[result.output].scale):
                raise ProtocolError(f"region '{region}': {result.output} has another level or scale than its slot program says")

    def _problems(self, document: Document[Any]) -> list[str]:
        """Return what is wrong with the names and sizes, as noun phrases for an error; empty if all fit."""
        program, problems = self.program, list[str]()
        loaded = [op.name for op in program.ops if op.kind == "input"]
        sent = [op.label for op in program.ops if op.kind == "output"]
        reads = {piece.input for upload in self.uploads for piece in upload.pieces} | {self.timestep} - {None}
        if sorted(loaded) != sorted(upload.name for upload in self.uploads) or len(set(sent)) != len(sent):
            problems.append("inputs or outputs that its slot program does not have, or has twice")
        if set(sent) != set(document.outputs):
            problems.append("outputs that its slot program does not have")
        if not reads <= set(document.inputs) or tuple(result.output for result in self.results) != document.outputs:
            problems.append("inputs or outputs without a layout")
        if not 1 <= self.bins <= TRAIN_STEPS or not 0 <= self.layers < 1 << 31:
            problems.append("sizes out of range")
        if min(self.grid.rows, self.grid.columns) < 1 or self.grid.area > program.ring.slots:
            problems.append("a grid out of range")
        if not 1 <= len(self.uploads) <= MOST_CIPHERTEXTS or len(self.results) > MOST_CIPHERTEXTS:
            problems.append("no ciphertexts, or too many")
        return problems

    def _check_upload(self, region: str, upload: Upload) -> None:
        """Raise `ProtocolError` unless an upload fits its operation of the slot program and the slots."""
        ring, op = self.program.ring, self.program.op(upload.name)
        if (upload.level, upload.scale) != (op.level, op.scale) or not 0 <= upload.level <= ring.depth:
            raise ProtocolError(f"region '{region}': {upload.name} has another level or scale than its slot program says")
        whole = 0 < upload.block <= ring.slots and 0 < upload.period <= ring.slots and ring.slots % upload.period == 0
        if not whole or not upload.pieces or any(piece.copies < 1 or upload.block % piece.copies for piece in upload.pieces):
            raise ProtocolError(
                f"region '{region}': {upload.name} has a block, period or number of copies that does not fit the slots"
            )
        for piece in upload.pieces:
            if piece.start < 0 or min(piece.shape) < 1 or (piece.spread and piece.shape[1:] != (1, 1)):
                raise ProtocolError(f"region '{region}': {piece.input} has an impossible position or shape")
            if piece.start + piece.size(upload.block, self.grid.area) > upload.period:
                raise ProtocolError(f"region '{region}': {piece.input} lies outside its upload")
            self.grid.slots(piece.shape)

    def row(self, t: float) -> int:
        """The row of the timestep tables that belongs to timestep `t`; row 0 if `t` is not finite."""
        return timestep_bin(t, self.bins) if np.isfinite(t) else 0


SlotDocument: TypeAlias = Document[SlotBody]


def document_of(
    lowering: Lowering, region: str, backend: str, inputs: tuple[str, ...], max_batch: int, timestep: str | None,
    bins: int, layers: int,
) -> dict[str, object]:  # fmt: skip
    """The JSON document of a lowered region."""
    outputs, text = tuple(result.output for result in lowering.results), print_program(lowering.program)
    body = SlotBody(max_batch, timestep, bins, layers, lowering.grid, lowering.uploads, lowering.results, text)
    return Document(region, backend, inputs, outputs, body).as_json()


def read_document(half: Half) -> SlotDocument:
    """Read and check the document of a half.

    Raises:
        ProtocolError: if it is malformed, or if its parts do not fit each other.
    """
    return read_program(half, SlotBody)


def checked_row(document: SlotDocument, row: int) -> int:
    """Return the row that a request names. Raises `ProtocolError` if the tables have no such row."""
    if not 0 <= row < document.body.bins:
        raise ProtocolError(f"region '{document.region}': the request names row {row}, but tables have {document.body.bins} rows")
    return row


def read_tables(half: Half, document: SlotDocument) -> dict[str, Array]:
    """The tables of a server half by name.

    Raises:
        ProtocolError: for a table that is missing, not used by the program, malformed, or does not fit the slots.
    """
    attributes = [op.attributes for op in document.body.program.ops]
    read = {str(keys[key]) for keys in attributes for key in ("table", "scaled") if key in keys} - {"none"}
    check_names(half, [name.removeprefix("@") for name in read])
    tables = dict(half.tensors)
    for name, table in tables.items():
        right = table.ndim == 2 and table.dtype in (np.float32, np.float64) and table.size > 0
        polynomial = name.startswith("p")
        if not right or not np.isfinite(table).all() or (not polynomial and document.body.program.ring.slots % table.shape[1]):
            raise ProtocolError(
                f"region '{document.region}': table '{name}' is not finite float32 or float64 rows that fit the slots"
            )
        if name.startswith(("p", "b", "s")) and len(table) not in (1, document.body.bins):
            raise ProtocolError(
                f"region '{document.region}': table '{name}' has {len(table)} rows for {document.body.bins} timestep bins"
            )
    return tables
