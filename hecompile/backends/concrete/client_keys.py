"""Makes a client's keys from a checked specification, and decrypts results with them, by Concrete. No server imports it."""

from __future__ import annotations

from typing import Any

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.library import concrete
from hecompile.backends.concrete.specs import Specs
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["client_with_keys", "decrypted"]


def client_with_keys(specs: Specs) -> Any:
    """A client of Concrete with fresh keys for a checked specification. Raises `ProtocolError` if Concrete refuses it."""
    fhe = concrete()
    try:
        client = fhe.Client(fhe.ClientSpecs.deserialize(specs.text.encode()))
        client.keygen(force=True)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ProtocolError(f"circuit specification: Concrete refuses it: {str(error)[:200]}") from error
    return client


def decrypted(client: Any, frame: Frame, words: bytes | memoryview) -> Array:
    """Decrypt the words of a result to integers. Raises `ProtocolError` if Concrete refuses them."""
    try:
        result: Array = client.decrypt(concrete().Value.deserialize(frame.wrap(words)))
    except (RuntimeError, ValueError) as error:
        raise ProtocolError(f"Concrete refuses a result: {str(error)[:200]}") from error
    return result
