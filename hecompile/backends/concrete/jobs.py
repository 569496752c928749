"""What is asked of worker processes, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Done", "Job", "ServerCircuit"]


@dataclass(frozen=True)
class ServerCircuit:
    """What a worker compiles, named by its checksum."""

    name: str
    mlir: str = field(repr=False)
    p_error: float
    specs: str = field(repr=False)
    keys: bytes = field(default=b"", repr=False)  # the empty set of evaluation keys, of a circuit without lookups

    @property
    def size(self) -> int:
        """Characters and bytes that are sent to a worker."""
        return len(self.mlir) + len(self.keys)


@dataclass(frozen=True)
class Job:
    """A circuit on some ciphertexts, with the keys of a session or none. `owner` is whose `Workers.cancel` gives it up."""

    circuit: ServerCircuit
    ciphertexts: tuple[bytes, ...] = field(repr=False)
    session: str = field(default="", repr=False)
    keys: bytes = field(default=b"", repr=False)
    key_name: str = ""  # as errors call the keys
    owner: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Done:
    """A job's results, serialised, and the CPU seconds that they took."""

    results: list[bytes]
    cpu_s: float
