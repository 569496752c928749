"""Reads a circuit's specification, from which Concrete's client makes keys and ciphertexts.

Whoever wrote the artifact may have written anything: a second input that is not encrypted, a noise that hides nothing, or a key of
another size. So a specification is read into its numbers (`parameters.py`), a document is built from them, and the specification
is refused unless it equals that document. Concrete gets the document that was built, after our own table has judged its noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hecompile.backends.concrete.frames import Frame, frame_of
from hecompile.backends.concrete.parameters import Bootstrap, EncryptedTensor, Keyswitch, Numbers
from hecompile.errors import ProtocolError
from hecompile.untrusted import parse_json

__all__ = ["Encryption", "Specs", "parse_specs"]

MOST_CHARACTERS = 1 << 20  # of a specification


@dataclass(frozen=True)
class Encryption:
    """One kind of LWE samples: the dimension of their secret, and the variance of their noise relative to the modulus."""

    what: str
    dimension: int
    variance: float

    @property
    def noise_bits(self) -> float:
        """log2 of the noise's standard deviation."""
        return math.log2(self.variance) / 2 if self.variance > 0 else -math.inf


@dataclass(frozen=True)
class Specs:
    """A specification that was checked. Widths are in bits of the encoded integers, with their sign."""

    numbers: Numbers

    @property
    def text(self) -> str:
        """The JSON text that Concrete gets. It holds the checked numbers alone, with sorted keys."""
        return json.dumps(self.numbers.document(), sort_keys=True)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the circuit's input integers."""
        return self.numbers.source.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the circuit's output integers."""
        return self.numbers.result.shape

    @property
    def input_words(self) -> int:
        """How many words of 64 bits an encrypted input has."""
        return self.numbers.source.words

    @property
    def output_words(self) -> int:
        """How many words of 64 bits an encrypted output has."""
        return self.numbers.result.words

    @property
    def input_width(self) -> int:
        """Bits of an input integer."""
        return self.numbers.source.width

    @property
    def output_width(self) -> int:
        """Bits of an output integer."""
        return self.numbers.result.width

    @property
    def request(self) -> Frame:
        """The frame of an encrypted input."""
        return frame_of(self.numbers.source)

    @property
    def reply(self) -> Frame:
        """The frame of an encrypted output."""
        return frame_of(self.numbers.result)

    @property
    def lookups(self) -> bool:
        """True if the circuit has table lookups, so that it needs evaluation keys."""
        return bool(self.numbers.bootstraps or self.numbers.keyswitches)

    @property
    def encryptions(self) -> tuple[Encryption, ...]:
        """Every kind of ciphertext and of key, each once. The first is that of inputs."""
        return tuple(dict.fromkeys(_encryptions(self.numbers)))

    def check_frames(self, what: str, request: Frame, reply: Frame) -> None:
        """Raises `ProtocolError` naming `what` unless these are the frames of this specification's ciphertexts."""
        if (request, reply) != (self.request, self.reply):
            raise ProtocolError(f"{what}: frames of another circuit")

    def error_probability(self, norm: float, shift: int = 0) -> float:
        """The probability that noise moves a result by more than half a step.

        Args:
            norm: the 2-norm of the result's coefficients, by which the noise of the inputs is multiplied.
            shift: low bits that hold noise only. They make a step that many times twice as large as a step of the encoding, above
                which one bit is free.
        """
        deviation = math.sqrt(self.encryptions[0].variance) * norm
        if deviation == 0:
            return 0.0
        return math.erfc(2.0 ** (shift - self.output_width - 2) / deviation / math.sqrt(2))

    def weak(self, security_bits: int) -> list[str]:
        """Return a phrase for every kind of ciphertext or key that has less noise than `security_bits` require."""
        from hecompile.security.lwe import least_noise_bits

        return [
            f"{kind.what} of dimension {kind.dimension} with a noise of 2^{kind.noise_bits:.1f} of the modulus, "
            f"below 2^{least_noise_bits(kind.dimension, security_bits):.1f}"
            for kind in self.encryptions
            if not kind.noise_bits >= least_noise_bits(kind.dimension, security_bits)
        ]


def _encryptions(numbers: Numbers) -> Iterator[Encryption]:
    """Every ciphertext and key of a specification, ciphertexts first."""
    for tensor in (numbers.source, numbers.result):
        yield Encryption("a ciphertext", tensor.dimension, tensor.variance)
    for key in numbers.bootstraps:
        yield Encryption("a bootstrap key", key.dimension, key.variance)
    for switch in numbers.keyswitches:
        yield Encryption("a keyswitch key", switch.dimension, switch.variance)


def _whole(value: Any) -> int:
    """The value, if it is an integer of less than 63 bits. Raises `ValueError` otherwise."""
    if type(value) is not int or abs(value) >= 1 << 62:
        raise ValueError(f"{value!r:.40} is not an integer of 62 bits")
    return value


def _real(value: Any) -> float:
    """The value as a float, if it is a number. Raises `ValueError` otherwise."""
    if type(value) is not float and type(value) is not int:
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value)


def _encrypted_tensor(document: Any) -> EncryptedTensor:
    """Read the numbers of an encrypted tensor from its part of a specification."""
    ciphertext = document["typeInfo"]["lweCiphertext"]
    encryption, encoding = ciphertext["encryption"], ciphertext["encoding"]["integer"]
    return EncryptedTensor(
        tuple(_whole(size) for size in ciphertext["abstractShape"]["dimensions"]),
        _whole(encoding["width"]),
        encoding["isSigned"] is True,
        _whole(encryption["keyId"]),
        _whole(encryption["lweDimension"]),
        _real(encryption["variance"]),
        ciphertext["compression"] == "seed",
    )


def _bootstrap(document: Any) -> Bootstrap:
    """Read the numbers of a bootstrap key from its part of a specification."""
    params = document["params"]
    numbers = [params[name] for name in ("inputLweDimension", "glweDimension", "polynomialSize", "baseLog", "levelCount")]
    source, target, *rest = map(_whole, (document["inputId"], document["outputId"], *numbers))
    return Bootstrap(source, target, rest[0], rest[1], rest[2], rest[3], rest[4], _real(params["variance"]))


def _keyswitch(document: Any) -> Keyswitch:
    """Read the numbers of a keyswitch key from its part of a specification."""
    params = document["params"]
    numbers = [params[name] for name in ("inputLweDimension", "outputLweDimension", "baseLog", "levelCount")]
    source, target, *rest = map(_whole, (document["inputId"], document["outputId"], *numbers))
    return Keyswitch(source, target, rest[0], rest[1], rest[2], rest[3], _real(params["variance"]))


def parse_specs(text: str) -> Specs:
    """Read and check a specification of one circuit with one encrypted input and one encrypted output.

    Raises:
        ProtocolError: if it is malformed, has a number out of range, or says anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise ProtocolError(f"circuit specification: {len(text)} characters, at most {MOST_CHARACTERS} are read")
    document = parse_json(text, "circuit specification")
    try:
        (circuit,), keyset = document["circuits"], document["keyset"]
        (source,), (result,) = circuit["inputs"], circuit["outputs"]
        numbers = Numbers(
            str(circuit["name"]),
            _encrypted_tensor(source),
            _encrypted_tensor(result),
            tuple(_whole(key["params"]["lweDimension"]) for key in keyset["lweSecretKeys"]),
            tuple(_bootstrap(key) for key in keyset["lweBootstrapKeys"]),
            tuple(_keyswitch(key) for key in keyset["lweKeyswitchKeys"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ProtocolError(f"circuit specification: {type(error).__name__}: {str(error)[:200]}") from error
    specs = Specs(numbers)
    if json.dumps(document, sort_keys=True) != specs.text:
        raise ProtocolError("circuit specification: it holds more than the expected numbers, or they do not fit together")
    return specs
