"""Evaluation keys: which ones a program needs, how large they are, and how a server checks and loads them."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from hecompile.backends.ckks.key_files import KeyFile
from hecompile.backends.ckks.program import SlotProgram
from hecompile.backends.ckks.ring import CkksRing
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

TAG_BYTES = 16  # of the tag that begins every request, by which a server notices ciphertexts under another session's keys


def relin_name(ring: CkksRing) -> str:
    """The name of a ring's relinearization key."""
    return f"{ring.name} relin"


def rotation_name(ring: CkksRing, steps: int) -> str:
    """The name of a ring's key for one rotation."""
    return f"{ring.name} rotate {steps}"


def galois_element(ring: CkksRing, steps: int) -> int:
    """The Galois element 3^steps of a rotation, which is what SEAL's `create_galois_keys` takes."""
    return int(pow(3, steps % ring.slots, 2 * ring.dimension))


def key_size(ring: CkksRing, lists: int) -> int:
    """Bytes of a seeded key in SEAL's format: a rotation key for `lists` = N, a relinearization key for `lists` = 1."""
    return KeyFile(ring.dimension, len(ring.bits) + 1, lists, 0).size


def _files(program: SlotProgram) -> dict[str, KeyFile]:
    """The form of every key's file that a program needs, by name."""
    ring, primes = program.ring, len(program.ring.bits) + 1
    files = {relin_name(ring): KeyFile(ring.dimension, primes, 1, 0)}  # also without products, as requests carry its tag
    for steps in program.steps:
        place = (galois_element(ring, steps) - 1) // 2
        files[rotation_name(ring, steps)] = KeyFile(ring.dimension, primes, ring.dimension, place)
    return files


def key_sizes(program: SlotProgram) -> dict[str, int]:
    """Size in bytes of every key that a program needs, as it is sent, by name."""
    return {name: file.size for name, file in _files(program).items()}


def held_bytes(program: SlotProgram) -> dict[str, int]:
    """Bytes of memory that every key takes at the server, by name."""
    return {name: file.held_bytes for name, file in _files(program).items()}


@dataclass(frozen=True, eq=False)
class LoadedKey:
    """A key as SEAL loaded it, and the tag of its bytes."""

    key: Any
    tag: bytes


def key_tag(data: bytes | memoryview) -> bytes:
    """The tag of a key's bytes. The tag of the relinearization key, which is public, tells sessions apart in requests."""
    return hashlib.sha256(data).digest()[:TAG_BYTES]


def load_key(program: SlotProgram, name: str, data: memoryview) -> LoadedKey:
    """Load the key of this name, one of `key_sizes`, with SEAL.

    Raises:
        ProtocolError: naming the key and saying what is wrong, unless `data` is exactly that key for this ring.
    """
    from hecompile.backends.ckks.seal import SEAL_ERRORS, context_of

    context, file, relin = context_of(program.ring), _files(program)[name], name == relin_name(program.ring)
    try:
        file.check(data, struct.pack("<4Q", *context.key_context_data().parms_id()))
        key = context.from_relin_str(bytes(data)) if relin else context.from_galois_str(bytes(data))
    except ProtocolError as error:
        raise _refusal(name, str(error)) from error
    except SEAL_ERRORS as error:
        raise _refusal(name, f"SEAL refuses it ({error})") from error
    if key.size() != 1 or not key.has_key(2 if relin else file.element):  # 2: the power of the secret that relinearization removes
        raise _refusal(name, "SEAL finds another key in it")
    return LoadedKey(key, key_tag(data))


def _refusal(name: str, why: str) -> ProtocolError:
    """The error that says why a key is refused."""
    return ProtocolError(f"evaluation key '{name}' is damaged, or it is another key: {why}: open a new session")
