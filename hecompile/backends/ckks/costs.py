"""Predicts what a slot program costs, from how many words each kind of operation touches.

A ciphertext at level l has 2 N (l + 1) words. A key switch (part of every rotation and relinearization) decomposes one polynomial
into l + 1 digits of l + 2 primes each: it transforms N (l + 1) (l + 2) words. The cost of all other operations is in proportion to
the words that they touch. Plaintexts that do not depend on the timestep are encoded once and kept. Those that do are encoded at
every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hecompile.backends.ckks.document import SlotDocument
from hecompile.backends.ckks.engine import Engine, Tables, Vector
from hecompile.backends.ckks.keys import key_sizes
from hecompile.backends.ckks.plaintexts import KEPT_BYTES
from hecompile.backends.ckks.program import SlotOp
from hecompile.backends.ckks.value import Value
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine

__all__ = ["Counts", "cost_of", "count"]


@dataclass
class Counts:
    """How many words one run touches, by kind of operation."""

    switches: int = 0
    products: int = 0
    rescales: int = 0
    encodes: int = 0  # words of plaintexts that every call encodes anew
    loads: int = 0
    kept: int = 0  # words of plaintexts that are the same at every call

    def seconds(self, machine: Machine) -> float:
        """Predicted CPU seconds of a server that keeps plaintexts of earlier calls, as far as `KEPT_BYTES` hold them."""
        encodes = self.encodes + (self.kept if 8 * (self.kept + self.encodes) > KEPT_BYTES else 0)
        return 1e-9 * (
            self.switches * machine.ckks_key_switch_ns
            + self.products * machine.ckks_multiply_ns
            + self.rescales * machine.ckks_rescale_ns
            + encodes * machine.ckks_encode_ns
            + self.loads * machine.ckks_load_ns
        )


class _Counter(Engine):
    """An engine that counts words instead of computing on data."""

    def __init__(self, document: SlotDocument, tables: Tables) -> None:
        super().__init__(document.body.program, tables)
        self.counts = Counts()

    def _words(self, x: Value) -> int:
        """The words of one polynomial of a value."""
        return self.ring.dimension * (x.level + 1)

    def _plain(self, x: Value, timed: bool, plaintexts: int) -> None:
        """Count plaintexts at a value's level: encoded anew at every call if `timed`, else kept."""
        words = plaintexts * self._words(x)
        if timed:
            self.counts.encodes += words
        else:
            self.counts.kept += words

    def _switched(self, x: Value) -> None:
        """Count one key switch."""
        self.counts.switches += self._words(x) * (x.level + 2)

    def _input(self, data: Any, op: SlotOp) -> None:
        self.counts.loads += self.ring.dimension * (op.level + 1)

    def _rotate(self, x: Value, steps: int) -> None:
        self._switched(x)

    def _dot(self, args: Sequence[Value], op: SlotOp, scale: float) -> None:
        self._plain(args[0], op.attributes["scaled"] != "none", len(args))
        self.counts.products += 2 * len(args) * self._words(args[0])

    def _times(self, x: Value, number: float, scale: float) -> None:
        self.counts.products += 2 * self._words(x)

    def _plus(self, x: Value, vector: Vector | float) -> None:
        if self.op is not None and self.op.kind == "plus":
            self._plain(x, len(self.tables[str(self.op.attributes["table"]).removeprefix("@")]) > 1, 1)

    def _mul(self, x: Value, y: Value) -> None:
        self.counts.products += 4 * self._words(x)

    def _relinearize(self, x: Value) -> None:
        self._switched(x)

    def _rescale(self, x: Value) -> None:
        self.counts.rescales += 2 * self._words(x)


def count(document: SlotDocument, tables: Tables) -> Counts:
    """Count the words that one run for one element of the batch touches."""
    counter = _Counter(document, tables)
    counter.run(dict.fromkeys(upload.name for upload in document.body.uploads))
    return counter.counts


def cost_of(document: SlotDocument, tables: Tables, machine: Machine) -> Cost:
    """Predicted cost of one request at batch one. Its round is not counted here: it belongs to the region.

    `peak_mib` is the server's memory for evaluation keys, tables and kept plaintexts.
    """
    from hecompile.backends.ckks.seal import fresh_bytes, reply_bytes

    ring, counts = document.body.program.ring, count(document, tables)
    encrypted = sum(ring.dimension * (upload.level + 1) for upload in document.body.uploads)
    decrypted = sum(ring.dimension * (result.level + 1) for result in document.body.results)
    client_s = 1e-9 * (encrypted * machine.ckks_encrypt_ns + decrypted * machine.ckks_decrypt_ns) + 2e-6 * machine.client_layer_us
    key_bytes = sum(key_sizes(document.body.program).values())
    kept = min(8 * (counts.kept + counts.encodes), KEPT_BYTES) + sum(table.nbytes for table in tables.values())
    return Cost(
        counts.seconds(machine),
        client_s,
        sum(fresh_bytes(ring, upload.level) for upload in document.body.uploads),
        sum(reply_bytes(ring, result.level) for result in document.body.results),
        key_bytes,
        (2 * key_bytes + kept) / 2**20,  # keys are half as large on the wire: one polynomial of each is a seed
    )
