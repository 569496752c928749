"""Jobs for worker processes, and their results."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Done", "Job", "ServerCircuit"]


@dataclass(frozen=True)
class ServerCircuit:
    """What a worker needs to compile a circuit. `name` is the checksum of the MLIR text."""

    name: str
    mlir: str = field(repr=False)
    p_error: float
    specs: str = field(repr=False)
    keys: bytes = field(default=b"", repr=False)  # for a circuit without table lookups: its empty set of evaluation keys

    @property
    def size(self) -> int:
        """How many characters and bytes are sent to a worker."""
        return len(self.mlir) + len(self.keys)


@dataclass(frozen=True)
class Job:
    """A circuit to evaluate on some ciphertexts, with the keys of a session or without keys.

    `Workers.cancel(owner)` gives up all jobs of that owner.
    """

    circuit: ServerCircuit
    ciphertexts: tuple[bytes, ...] = field(repr=False)
    session: str = field(default="", repr=False)
    keys: bytes = field(default=b"", repr=False)
    key_name: str = ""  # the keys' name in errors
    owner: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Done:
    """A job's serialised results, and the CPU seconds that they took."""

    results: list[bytes]
    cpu_s: float
