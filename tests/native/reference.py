"""The scheme of docs/cryptography.md in plain Python integers, for comparison: the public half, encryption and decryption."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = [
    "Ring",
    "binomial",
    "decrypt",
    "encrypt",
    "evaluate",
    "expand",
    "interpolate",
    "largest_prime",
    "multiply",
    "public_key",
    "ternary",
]


@dataclass(frozen=True)
class Ring:
    """Z_q[X] / (X^N + 1) with plaintexts modulo t."""

    n: int
    q: int
    t_bits: int

    @property
    def t(self) -> int:
        return 1 << self.t_bits

    @property
    def word_bytes(self) -> int:
        return (self.q.bit_length() + 7) // 8

    @property
    def words(self) -> int:
        """Words of the stream for one upload: N, and spare ones for those that are not below q."""
        return self.n + max(64, self.n // 32)

    @property
    def upload_bytes(self) -> int:
        """Bytes of the stream that belong to one upload, in whole AES blocks."""
        return (self.words * self.word_bytes + 15) // 16 * 16

    @cached_property
    def psi(self) -> int:
        """The smallest 2N-th primitive root of unity modulo q."""
        candidates = (pow(base, (self.q - 1) // (2 * self.n), self.q) for base in range(2, 1000))
        root = next(root for root in candidates if pow(root, self.n, self.q) == self.q - 1)
        return min(pow(root, exponent, self.q) for exponent in range(1, 2 * self.n, 2))


def public_key(digest: bytes, region: str, layer: int, group: int, seed: bytes) -> bytes:
    """K_a: 32 bytes for one layer and one group of up to 64 blocks."""
    text = b"hecompile bfv a v1"
    for field in (digest, region.encode()):
        text += len(field).to_bytes(4, "little") + field
    text += layer.to_bytes(4, "little") + group.to_bytes(4, "little") + seed
    return hashlib.shake_256(text).digest(32)


def stream(key: bytes, position: int, size: int) -> bytes:
    """Bytes [position, position + size) of AES-256-CTR; `position` is a multiple of 16."""
    counter = (position // 16).to_bytes(16, "big")
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(size))


def expand(ring: Ring, key: bytes, upload: int) -> list[int]:
    """Words of `a` of one upload, in evaluation order. Raises ValueError if too few of them are below q."""
    data = stream(key, upload * ring.upload_bytes, ring.upload_bytes)
    mask, size = (1 << ring.q.bit_length()) - 1, ring.word_bytes
    words = (int.from_bytes(data[i * size : (i + 1) * size], "little") & mask for i in range(ring.words))
    kept = [word for word in words if word < ring.q][: ring.n]
    if len(kept) < ring.n:
        raise ValueError("a seed with too few words below q")
    return kept


def ternary(data: bytes) -> list[int]:
    """A secret's coefficients, -1 to 1, from eight bytes each."""
    return [(int.from_bytes(data[i : i + 8], "little") * 3 >> 64) - 1 for i in range(0, len(data), 8)]


def binomial(data: bytes) -> list[int]:
    """An error's coefficients, -21 to 21, from six bytes each: ones among bits 0 to 20 less ones among bits 21 to 41."""
    values = [int.from_bytes(data[i : i + 6], "little") for i in range(0, len(data), 6)]
    return [(value & 0x1FFFFF).bit_count() - (value >> 21 & 0x1FFFFF).bit_count() for value in values]


def interpolate(ring: Ring, values: list[int], exponent: int | None = None) -> list[int]:
    """Coefficients of the polynomial whose value k is the one at psi^(2 bitreverse(k) + 1)."""
    exponent = ring.n if exponent is None else exponent  # of the modulus X^len(values) - psi^exponent; psi^N is -1
    if len(values) == 1:
        return values
    half = len(values) // 2
    left = interpolate(ring, values[:half], exponent // 2)
    right = interpolate(ring, values[half:], exponent // 2 + ring.n)
    middle, inverse = pow(2, -1, ring.q), pow(2 * pow(ring.psi, exponent // 2, ring.q), -1, ring.q)
    low = [(x + y) * middle % ring.q for x, y in zip(left, right, strict=True)]
    return low + [(x - y) * inverse % ring.q for x, y in zip(left, right, strict=True)]


def evaluate(ring: Ring, coefficients: list[int], index: int) -> int:
    """Value `index` of a polynomial in evaluation order, by its definition."""
    bits = ring.n.bit_length() - 1
    point = pow(ring.psi, 2 * int(f"{index:0{bits}b}"[::-1], 2) + 1, ring.q)
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % ring.q
    return value


def multiply(ring: Ring, first: list[int], second: list[int]) -> list[int]:
    """The product in the ring, by one product of long integers with 16 bytes for each coefficient (N q^2 is below 2^128)."""
    numbers = [int.from_bytes(b"".join((c % ring.q).to_bytes(16, "little") for c in f), "little") for f in (first, second)]
    data = (numbers[0] * numbers[1]).to_bytes(32 * ring.n, "little")
    sums = [int.from_bytes(data[16 * i : 16 * i + 16], "little") for i in range(2 * ring.n)]
    return [(sums[i] - sums[i + ring.n]) % ring.q for i in range(ring.n)]


def encrypt(ring: Ring, message: list[int], words: list[int], secret: list[int], error: list[int]) -> list[int]:
    """b = m (q - 1) / t + e - a s: coefficients below q. `words` are those of `a` in evaluation order."""
    delta, product = (ring.q - 1) // ring.t, multiply(ring, interpolate(ring, words), secret)
    return [(m * delta + e - x) % ring.q for m, e, x in zip(message, error, product, strict=True)]


def decrypt(ring: Ring, b: list[int], a: list[int], secret: list[int]) -> list[int]:
    """round((b + a s) t / q) modulo t, in [-t/2, t/2). Here `a` are coefficients."""
    product, half = multiply(ring, a, secret), ring.t // 2
    phases = [(x + y) % ring.q for x, y in zip(b, product, strict=True)]
    return [((2 * phase * ring.t + ring.q) // (2 * ring.q) + half) % ring.t - half for phase in phases]


def largest_prime(below: int, t_bits: int) -> int:
    """The largest prime of the form 1 + k 2^t_bits that is at most `below`."""
    q = (below - 1 >> t_bits << t_bits) + 1
    while not _is_prime(q):
        q -= 1 << t_bits
    return q


def _is_prime(q: int) -> bool:
    """Miller-Rabin with twelve bases, certain below 2^64."""
    twos = (q - 1 & 1 - q).bit_length() - 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        x = pow(base, (q - 1) >> twos, q)
        if x not in (1, q - 1) and all((x := x * x % q) != q - 1 for _ in range(twos - 1)):
            return False
    return True
