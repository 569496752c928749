"""Draws initial noise from a secure generator. Where values are revealed, a few of them would be enough to find a 32-bit seed."""

from __future__ import annotations

import hashlib
import secrets
from math import prod

import numpy as np
import torch

from hecompile.errors import CompileError, Diagnostic

__all__ = ["SEED_LEAST", "secure_noise"]

SEED_LEAST = 16  # bytes of a seed


def secure_noise(shape: tuple[int, ...], seed: bytes | None = None) -> torch.Tensor:
    """Return standard normal float32 numbers of `shape`. The same seed gives the same noise.

    The seed is expanded by SHAKE-256 (FIPS 202), and pairs of uniform numbers become normal ones by the method of Box and Muller.

    Args:
        seed: at least 16 bytes that nobody can guess, such as `secrets.token_bytes(32)`; None takes fresh ones.

    Raises:
        CompileError: for a seed that is too short, or is an integer or a torch generator, of which only 32 bits count.
    """
    if seed is None:
        seed = secrets.token_bytes(32)
    if not isinstance(seed, bytes):
        raise CompileError(
            Diagnostic(
                f"edge noise -> sample: {_named(seed)} for the initial noise, which can be found from a few revealed entries",
                help="pass bytes, secrets.token_bytes(32) for example, or nothing for fresh noise",
            )
        )
    if len(seed) < SEED_LEAST:
        raise CompileError(f"edge noise -> sample: a seed of {len(seed)} bytes can be guessed, at least {SEED_LEAST} are needed")
    pairs = -(-prod(shape) // 2)
    words = np.frombuffer(hashlib.shake_256(b"hecompile initial noise" + seed).digest(16 * pairs), "<u8").reshape(2, pairs)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53  # in (0, 1], 53 bits
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: prod(shape)]
    return torch.from_numpy(normal.reshape(shape).astype(np.float32))


def _named(seed: object) -> str:
    """Return how an error names a seed of the wrong type."""
    return "an integer seed" if isinstance(seed, int) else f"a {type(seed).__name__}"
