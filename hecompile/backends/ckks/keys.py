"""Evaluation keys: which ones a program needs, how large they are, and how a server judges and loads them."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from hecompile.backends.ckks.key_files import KeyFile
from hecompile.backends.ckks.program import SlotProgram
from hecompile.backends.ckks.ring import Ring
from hecompile.errors import ProtocolError

__all__ = [
    "TAG_BYTES",
    "LoadedKey",
    "galois_element",
    "held_bytes",
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


def key_size(ring: Ring, lists: int) -> int:
    """Bytes of a seeded key in SEAL's format: of a rotation for N lists, of relinearization for one."""
    return KeyFile(ring.dimension, len(ring.bits) + 1, lists, 0).size


def _files(program: SlotProgram) -> dict[str, KeyFile]:
    """The form of every key that a program needs, by name."""
    ring, primes = program.ring, len(program.ring.bits) + 1
    found = {relin_name(ring): KeyFile(ring.dimension, primes, 1, 0)}  # also without products: it is what requests are tagged by
    for steps in program.steps:
        place = (galois_element(ring, steps) - 1) // 2
        found[rotation_name(ring, steps)] = KeyFile(ring.dimension, primes, ring.dimension, place)
    return found


def key_sizes(program: SlotProgram) -> dict[str, int]:
    """Bytes by name of every key that a program needs, as it travels."""
    return {name: file.size for name, file in _files(program).items()}


def held_bytes(program: SlotProgram) -> dict[str, int]:
    """Bytes of memory by name that every key takes at the server."""
    return {name: file.held_bytes for name, file in _files(program).items()}


@dataclass(frozen=True, eq=False)
class LoadedKey:
    """A key of SEAL's, and the tag of its bytes."""

    key: Any
    tag: bytes


def key_tag(data: bytes | memoryview) -> bytes:
    """What tells sessions apart in requests: of the relinearization key, which is public."""
    return hashlib.sha256(data).digest()[:TAG_BYTES]


def load_key(program: SlotProgram, name: str, data: memoryview) -> LoadedKey:
    """The key of this name, one of `key_sizes`, by SEAL.

    Raises:
        ProtocolError: naming the key and saying what is wrong, unless the data are one key, for this ring and of that name.
    """
    from hecompile.backends.ckks.seal import SEAL_ERRORS, context_of

    context, file, relin = context_of(program.ring), _files(program)[name], name == relin_name(program.ring)
    try:
        file.judge(data, struct.pack("<4Q", *context.key_context_data().parms_id()))
        key = context.from_relin_str(bytes(data)) if relin else context.from_galois_str(bytes(data))
    except ProtocolError as error:
        raise _refusal(name, str(error)) from error
    except SEAL_ERRORS as error:
        raise _refusal(name, f"SEAL refuses it ({error})") from error
    if key.size() != 1 or not key.has_key(2 if relin else file.element):  # 2: the power of the secret
        raise _refusal(name, "SEAL finds another key in it")
    return LoadedKey(key, key_tag(data))


def _refusal(name: str, why: str) -> ProtocolError:
    return ProtocolError(f"evaluation key '{name}' is damaged or another: {why}: open a new session")
