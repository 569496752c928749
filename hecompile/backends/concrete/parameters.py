"""The numbers of a circuit's specification, each within bounds, and the JSON document that is built from them.

Concrete's client only ever gets a document that was built here: one circuit with one encrypted input and one encrypted output,
binary keys, the modulus 2^64, and inputs and keys that are sent with a seed in place of their masks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Bootstrap", "EncryptedTensor", "Keyswitch", "Numbers"]

DIMENSIONS = (256, 1 << 16)  # the least and the largest dimension of an LWE secret
POLYNOMIALS = tuple(1 << bits for bits in range(8, 17))  # sizes of a bootstrap key's polynomials
MOST_KEYS = 64  # of each kind
MOST_SIDE = 1 << 24  # of each dimension of a tensor
MOST_BYTES = 1 << 28  # of a message: Concrete takes ten times as much memory, and a list of Cap'n Proto holds at most twice as much
WIDTHS = (1, 60)  # the least and the most bits of a message
PRECISION = 64  # bits of a word
SEED_WORDS = 2  # of the seed that stands in place of a ciphertext's mask
NAME = re.compile(r"[A-Za-z0-9_<>]{1,64}")


def _check_dimension(what: str, value: int) -> None:
    """Raise `ValueError` for a dimension out of range."""
    if not DIMENSIONS[0] <= value <= DIMENSIONS[1]:
        raise ValueError(f"{what} of dimension {value}, not {DIMENSIONS[0]} to {DIMENSIONS[1]}")


def _check_noise(what: str, variance: float) -> None:
    """Raise `ValueError` for a variance that is not in [0, 1)."""
    if not 0 <= variance < 1:
        raise ValueError(f"{what} with a noise of variance {variance}")


def _check_levels(what: str, base: int, levels: int) -> None:
    """Raise `ValueError` unless `levels` digits of `base` bits fit a word."""
    if base < 1 or levels < 1 or base * levels > PRECISION:
        raise ValueError(f"{what} of {levels} levels of {base} bits")


_MODULUS: dict[str, Any] = {"modulus": {"native": {}}}  # 2^64


@dataclass(frozen=True)
class EncryptedTensor:
    """The numbers of an encrypted tensor, which is a circuit's input or output. `seeded` says that masks are sent as seeds.

    Raises:
        ValueError: when built from a number out of range.
    """

    shape: tuple[int, ...]
    width: int
    signed: bool
    key: int  # number of the secret key
    dimension: int
    variance: float
    seeded: bool

    def __post_init__(self) -> None:
        _check_dimension("a ciphertext", self.dimension)
        _check_noise("a ciphertext", self.variance)
        if not 1 <= len(self.shape) <= 8 or not all(1 <= size <= MOST_SIDE for size in self.shape):
            raise ValueError(f"a tensor of shape {self.shape}")
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            raise ValueError(f"a width of {self.width} bits")
        if 8 * self.words > MOST_BYTES:
            raise ValueError(f"ciphertexts of {8 * self.words} bytes")

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of the words: that of the tensor, with the words of one ciphertext as last dimension."""
        return (*self.shape, (SEED_WORDS if self.seeded else self.dimension) + 1)

    @property
    def words(self) -> int:
        """How many words of 64 bits all ciphertexts have together."""
        return math.prod(self.stored)

    @property
    def span(self) -> tuple[int, int]:
        """The least and the largest integer that can be encoded."""
        return (-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1) if self.signed else (0, (1 << self.width) - 1)

    @property
    def reach(self) -> int:
        """The largest integer that can be encoded with either sign."""
        return min(self.span[1], -self.span[0])

    def document(self) -> dict[str, Any]:
        """Its part of the JSON document."""
        ciphertext = {
            "abstractShape": {"dimensions": [*self.shape]},
            "compression": "seed" if self.seeded else "none",
            "concreteShape": {"dimensions": [*self.stored]},
            "encoding": {"integer": {"isSigned": self.signed, "mode": {"native": {}}, "width": self.width}},
            "encryption": {"keyId": self.key, "lweDimension": self.dimension, "modulus": _MODULUS, "variance": self.variance},
            "integerPrecision": PRECISION,
        }
        raw = {"integerPrecision": PRECISION, "isSigned": False, "shape": {"dimensions": [*self.stored]}}
        return {"rawInfo": raw, "typeInfo": {"lweCiphertext": ciphertext}}


@dataclass(frozen=True)
class Bootstrap:
    """The numbers of a bootstrap key: secret key number `source`, encrypted under secret key number `target`.

    Raises:
        ValueError: when built from a number out of range.
    """

    source: int
    target: int
    source_dimension: int
    glwe_dimension: int
    polynomial_size: int
    base: int
    levels: int
    variance: float

    def __post_init__(self) -> None:
        _check_levels("a bootstrap key", self.base, self.levels)
        _check_noise("a bootstrap key", self.variance)
        if self.polynomial_size not in POLYNOMIALS or not 1 <= self.glwe_dimension <= 64:
            raise ValueError(
                f"a bootstrap key of {self.glwe_dimension} polynomials of size {self.polynomial_size}: it may have 1 to 64, of a "
                f"power of two from {POLYNOMIALS[0]} to {POLYNOMIALS[-1]}"
            )

    @property
    def dimension(self) -> int:
        """The dimension of the secret that it is encrypted under."""
        return self.glwe_dimension * self.polynomial_size

    @property
    def size(self) -> int:
        """Bytes of the key as it is sent, seeded."""
        return 8 * self.source_dimension * self.levels * (self.glwe_dimension + 1) * self.polynomial_size

    def document(self, number: int) -> dict[str, Any]:
        """Its part of the JSON document."""
        params = {
            "baseLog": self.base, "glweDimension": self.glwe_dimension, "inputLweDimension": self.source_dimension,
            "integerPrecision": PRECISION, "keyType": "binary", "levelCount": self.levels, "modulus": _MODULUS,
            "polynomialSize": self.polynomial_size, "variance": self.variance,
        }  # fmt: skip
        return {"compression": "seed", "id": number, "inputId": self.source, "outputId": self.target, "params": params}


@dataclass(frozen=True)
class Keyswitch:
    """The numbers of a keyswitch key: secret key number `source`, encrypted under secret key number `target`.

    Raises:
        ValueError: when built from a number out of range.
    """

    source: int
    target: int
    source_dimension: int
    dimension: int  # of the secret that it is encrypted under
    base: int
    levels: int
    variance: float

    def __post_init__(self) -> None:
        _check_levels("a keyswitch key", self.base, self.levels)
        _check_noise("a keyswitch key", self.variance)

    @property
    def size(self) -> int:
        """Bytes of the key as it is sent, seeded."""
        return 8 * self.source_dimension * self.levels

    def document(self, number: int) -> dict[str, Any]:
        """Its part of the JSON document."""
        params = {
            "baseLog": self.base, "inputLweDimension": self.source_dimension, "integerPrecision": PRECISION, "keyType": "binary",
            "levelCount": self.levels, "modulus": _MODULUS, "outputLweDimension": self.dimension, "variance": self.variance,
        }  # fmt: skip
        return {"compression": "seed", "id": number, "inputId": self.source, "outputId": self.target, "params": params}


@dataclass(frozen=True)
class Numbers:
    """All numbers of a specification. Keys of each kind are numbered by their places. `secrets` are dimensions of secret keys.

    Raises:
        ValueError: when built from numbers that do not fit together.
    """

    name: str
    source: EncryptedTensor
    result: EncryptedTensor
    secrets: tuple[int, ...]
    bootstraps: tuple[Bootstrap, ...]
    keyswitches: tuple[Keyswitch, ...]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a circuit with the name {self.name[:60]!r}")
        if not self.source.seeded or self.result.seeded:
            raise ValueError("inputs must be sent with a seed, and results without")
        if not 1 <= len(self.secrets) <= MOST_KEYS or max(len(self.bootstraps), len(self.keyswitches)) > MOST_KEYS:
            raise ValueError("no secret keys, or too many keys")
        for dimension in self.secrets:
            _check_dimension("a secret key", dimension)
        for tensor in (self.source, self.result):
            self._judge("a ciphertext", tensor.key, tensor.dimension)
        for key in self.evaluation_keys:
            self._judge("an evaluation key's source", key.source, key.source_dimension)
            self._judge("an evaluation key", key.target, key.dimension)

    def _judge(self, what: str, key: int, dimension: int) -> None:
        """Raise `ValueError` unless secret key number `key` exists and has this dimension."""
        if not 0 <= key < len(self.secrets):
            raise ValueError(f"{what} of a secret key {key} that does not exist")
        if self.secrets[key] != dimension:
            raise ValueError(f"{what} of dimension {dimension} under a secret key of dimension {self.secrets[key]}")

    @property
    def evaluation_keys(self) -> tuple[Bootstrap | Keyswitch, ...]:
        """The keys of both kinds."""
        return (*self.bootstraps, *self.keyswitches)

    @property
    def key_bytes(self) -> int:
        """Bytes of all evaluation keys as they are sent, seeded."""
        return sum(key.size for key in self.evaluation_keys)

    def document(self) -> dict[str, Any]:
        """The JSON document of the specification."""
        params = [{"integerPrecision": PRECISION, "keyType": "binary", "lweDimension": dimension} for dimension in self.secrets]
        keyset = {
            "lweBootstrapKeys": [key.document(number) for number, key in enumerate(self.bootstraps)],
            "lweKeyswitchKeys": [key.document(number) for number, key in enumerate(self.keyswitches)],
            "lweSecretKeys": [{"id": number, "params": secret} for number, secret in enumerate(params)],
            "packingKeyswitchKeys": list[Any](),
        }
        circuit = {"inputs": [self.source.document()], "name": self.name, "outputs": [self.result.document()]}
        return {"circuits": [circuit], "keyset": keyset}
