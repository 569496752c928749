"""The client's secret key of a session: encryption, decryption and evaluation keys, all by SEAL. No server imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.ckks.keys import galois_element
from hecompile.backends.ckks.ring import Ring
from hecompile.backends.ckks.seal import context_of, encoder_of, load_answer, parms_id, split_fresh
from hecompile.backends.seal_files import FILE, header

__all__ = ["SecretKey"]


class SecretKey:
    """One secret key and what it is for. Never leaves the client, never printed."""

    __slots__ = ("_decryptor", "_encryptor", "_generator", "ring")

    def __init__(self, ring: Ring) -> None:
        context = context_of(ring)
        self.ring = ring
        self._generator = seal.KeyGenerator(context)
        key = self._generator.secret_key()
        self._encryptor = seal.Encryptor(context, key)
        self._decryptor = seal.Decryptor(context, key)

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def encrypt(self, slots: npt.NDArray[np.float64], level: int, scale: float) -> bytes:
        """A fresh symmetric encryption of a vector, as it goes on the wire."""
        plain = seal.Plaintext()
        encoder_of(self.ring).encode(slots.tolist(), parms_id(self.ring, level), scale, plain)
        self._encryptor.encrypt_symmetric(plain).save(FILE.path)
        return split_fresh(_taken(), self.ring, level)

    def decrypt(self, data: memoryview, level: int, scale: float) -> npt.NDArray[np.float64]:
        """The slots of an answer. Raises `ProtocolError` for words that are no ciphertext."""
        plain = seal.Plaintext()
        self._decryptor.decrypt(load_answer(data, self.ring, level, scale), plain)
        return np.asarray(encoder_of(self.ring).decode_double(plain), np.float64)

    def relinearization_key(self) -> bytes:
        """SEAL's file of a fresh relinearization key, seeded, not compressed."""
        return _saved(self._generator.create_relin_keys())

    def galois_key(self, steps: int) -> bytes:
        """SEAL's file of a fresh key for one rotation, seeded, not compressed."""
        elements: Sequence[int] = [galois_element(self.ring, steps)]
        return _saved(self._generator.create_galois_keys(elements))


def _taken() -> bytes:
    """What SEAL wrote; the file is emptied."""
    members = FILE.read()
    FILE.write(b"")
    return members


def _saved(keys: Any) -> bytes:
    keys.save(FILE.path)
    members = _taken()
    return header(len(members)) + members
