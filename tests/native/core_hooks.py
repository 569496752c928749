"""The client's half of the core with streams that a test chooses: a module that `make core-tests` builds and nothing installs."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.words import pack_bits, unpack_bits
from tests.native.reference import Ring

__all__ = ["Planted", "hooks", "secret_bytes", "secrets_of"]

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@cache
def hooks() -> Any:
    """The module. Fails with what to do if it was not built."""
    folder = Path(__file__).parents[2] / "build" / "native"
    built = sorted(folder.rglob("_core_hooks*.so"))
    assert built, f"no _core_hooks in {folder}: `make core-tests` builds it"
    spec = importlib.util.spec_from_file_location("_core_hooks", built[0])
    assert spec is not None
    assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def secret_bytes(secrets: Integers) -> bytes:
    """Random bytes from which the core draws these ternary secrets."""
    words = np.array([2**64 - 1, 0, 2**63], np.uint64)[np.asarray(secrets).reshape(-1) % 3 - 1]  # of 1, -1 and 0
    return words.astype("<u8").tobytes()


def secrets_of(request: _core.Request) -> list[list[int]]:
    """The ternary secrets of a request of the installed module that was not answered yet, block by block."""
    return [list(block) for block in hooks().secrets(request)]


class Planted:
    """Encryption of integers (blocks, uploads, N) under streams of `a`, secrets and errors that stand here."""

    def __init__(self, ring: Ring, messages: Integers, a: bytes, secrets: bytes, errors: bytes) -> None:
        self.ring, self.shape = ring, messages.shape
        blocks, uploads, _ = messages.shape
        self._made = hooks().encrypt(
            ring.n, ring.q, ring.t_bits, blocks, uploads, np.ascontiguousarray(messages), [a], secrets, errors
        )

    @property
    def words(self) -> Words:
        """`b` of every upload: (blocks, uploads, N)."""
        count = int(np.prod(self.shape))
        return unpack_bits(memoryview(self._made.words), count, self.ring.q.bit_length()).reshape(self.shape)

    def decrypt(self, b: Words, a: Words) -> Integers:
        """(blocks, N) and (1, N) coefficients -> integers (blocks, N)."""
        bits, out = self.ring.q.bit_length(), np.empty(b.shape, np.int64)
        hooks().decrypt(self._made, pack_bits(b, bits), pack_bits(a, bits), out)
        return out
