"""The client's secret key of a session, which encrypts, decrypts and makes evaluation keys by SEAL. No server imports this module.

TenSEAL's build of SEAL makes keys and fresh ciphertexts, since it writes one polynomial of each as a seed, which `seal-python`
cannot. It gets no data from elsewhere: `seal-python` loads and decrypts answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.keys import galois_element
from hecompile.backends.ckks.library import seal
from hecompile.backends.ckks.maker import maker
from hecompile.backends.ckks.ring import CkksRing, primes
from hecompile.backends.ckks.seal import SEAL_ERRORS, context_of, encoder_of, load_answer, parms_id, split_fresh
from hecompile.backends.seal_files import FILE, header
from hecompile.errors import InternalError, ProtocolError

__all__ = ["SecretKey"]


@lru_cache(maxsize=16)
def _maker_context(ring: CkksRing) -> Any:
    """The context of TenSEAL's build of SEAL, with the same primes.

    Raises `InternalError` if the two builds name it differently.
    """
    parameters = maker.EncryptionParameters(maker.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(ring.dimension)
    parameters.set_coeff_modulus([maker.Modulus(prime) for prime in primes(ring)])
    context = maker.SEALContext(parameters, True, maker.SEC_LEVEL_TYPE.TC128)
    if context.first_parms_id() != parms_id(ring, ring.depth):
        raise InternalError(f"the two builds of SEAL do not agree on {ring}")
    return context


@lru_cache(maxsize=16)
def _maker_encoder(ring: CkksRing) -> Any:
    """The encoder of TenSEAL's build of SEAL."""
    return maker.CKKSEncoder(_maker_context(ring))


class SecretKey:
    """A fresh secret key for a ring. It never leaves the client, and its `repr` hides it."""

    __slots__ = ("_decryptor", "_encryptor", "_generator", "ring")

    def __init__(self, ring: CkksRing) -> None:
        context = _maker_context(ring)
        self.ring = ring
        self._generator = maker.KeyGenerator(context)
        key = self._generator.secret_key()
        self._encryptor = maker.Encryptor(context, key)
        self._decryptor = seal.Decryptor(context_of(ring), context_of(ring).from_secret_str(_saved(key)))

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def encrypt(self, slots: npt.NDArray[np.float64], level: int, scale: float) -> bytes:
        """Encrypt a vector (slots) with fresh randomness, and return the ciphertext as it is sent."""
        plain = maker.Plaintext()
        _maker_encoder(self.ring).encode(slots.tolist(), parms_id(self.ring, level), scale, plain)
        self._encryptor.encrypt_symmetric(plain).save(FILE.path)
        return split_fresh(_taken(), self.ring, level)

    def decrypt(self, data: memoryview, level: int, scale: float) -> npt.NDArray[np.float64]:
        """Decrypt an answer and return its slots (slots). Raises `ProtocolError` if the data are not a ciphertext."""
        try:
            return encoder_of(self.ring).decode(self._decryptor.decrypt(load_answer(data, self.ring, level, scale)))
        except SEAL_ERRORS as error:
            raise ProtocolError(f"SEAL refuses an answer: {error}") from error

    def relinearization_key(self) -> bytes:
        """Make a relinearization key, and return it as SEAL's file, seeded and not compressed."""
        return _saved(self._generator.create_relin_keys())

    def galois_key(self, steps: int) -> bytes:
        """Make the key for a rotation by `steps`, and return it as SEAL's file, seeded and not compressed."""
        elements: Sequence[int] = [galois_element(self.ring, steps)]
        return _saved(self._generator.create_galois_keys(elements))


def _taken() -> bytes:
    """Return what SEAL wrote to the file in memory, and empty the file."""
    members = FILE.read()
    FILE.write(b"")
    return members


def _saved(key: Any) -> bytes:
    """Return a key as SEAL's file, not compressed."""
    key.save(FILE.path)
    members = _taken()
    return header(len(members)) + members
