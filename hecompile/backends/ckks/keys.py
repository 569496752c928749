"""Evaluation keys: which ones a program needs, how large they are, and how a server loads them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from hecompile.backends.ckks.program import SlotProgram
from hecompile.backends.ckks.ring import Ring
from hecompile.errors import ProtocolError

__all__ = [
    "TAG_BYTES",
    "LoadedKey",
    "galois_element",
    "key_size",
    "key_sizes",
    "key_tag",
    "load_key",
    "relin_name",
    "rotation_name",
]

TAG_BYTES = 16  # of a session's keys in front of every request, so that a ciphertext under other keys is told


def relin_name(ring: Ring) -> str:
    """The name of a ring's relinearization key."""
    return f"{ring.name} relin"


def rotation_name(ring: Ring, steps: int) -> str:
    """The name of a ring's key for one rotation."""
    return f"{ring.name} rotate {steps}"


def galois_element(ring: Ring, steps: int) -> int:
    """SEAL's create_galois_keys takes elements 3^steps, not steps."""
    return int(pow(3, steps % ring.slots, 2 * ring.dimension))


def key_size(ring: Ring, index: int) -> int:
    """Most bytes of a seeded key in SEAL's format: one ciphertext of the whole modulus per prime; `index` empty keys before it."""
    primes = len(ring.bits) + 1
    one = 8 * primes * ring.dimension + 512  # words of one polynomial; the other is a seed
    return (primes - 1) * one + 8 * index + 512


def key_sizes(program: SlotProgram) -> dict[str, int]:
    """Most bytes by name of every key that a program needs."""
    ring = program.ring
    sizes = {rotation_name(ring, steps): key_size(ring, ring.dimension) for steps in program.steps}
    return {relin_name(ring): key_size(ring, 1), **sizes}  # also without products: it is what requests are tagged by


@dataclass(frozen=True, eq=False)
class LoadedKey:
    """A key of SEAL's, and the tag of its bytes."""

    key: Any
    tag: bytes


def key_tag(data: bytes | memoryview) -> bytes:
    """What tells sessions apart in requests: of the relinearization key, which is public."""
    return hashlib.sha256(data).digest()[:TAG_BYTES]


def load_key(ring: Ring, name: str, data: memoryview, kind: Any) -> LoadedKey:
    """A key of SEAL's `kind`. Raises `ProtocolError` naming it if SEAL finds it malformed."""
    from hecompile.backends.ckks.seal import context_of
    from hecompile.backends.seal_files import FILE

    key = kind()
    try:
        key.load(context_of(ring), FILE.write(data))
    except (ValueError, RuntimeError, IndexError) as error:
        raise ProtocolError(f"evaluation key '{name}' is damaged ({error}): open a new session") from error
    finally:
        FILE.write(b"")
    return LoadedKey(key, key_tag(data))
