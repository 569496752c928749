"""Reading the client's specification of a circuit: what Concrete's client makes keys and ciphertexts from.

Whoever wrote the artifact may have written anything: another kind of input beside the encrypted one, a noise that hides nothing,
a key of another size. So a specification is read into its numbers (`parameters.py`), built anew from them, and refused unless both
are the same document. Concrete is given the one that was built, and our own table judges the noise before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hecompile.backends.concrete.frames import Frame, frame_of
from hecompile.backends.concrete.parameters import Bootstrap, Gate, Keyswitch, Numbers
from hecompile.errors import ProtocolError
from hecompile.untrusted import parse_json

__all__ = ["Encryption", "Specs", "parse_specs"]

MOST_CHARACTERS = 1 << 20  # of a specification


@dataclass(frozen=True)
class Encryption:
    """LWE samples of one kind: dimension of the secret, and the variance of their noise relative to the modulus."""

    what: str
    dimension: int
    variance: float

    @property
    def noise_bits(self) -> float:
        """log2 of the standard deviation."""
        return math.log2(self.variance) / 2 if self.variance > 0 else -math.inf


@dataclass(frozen=True)
class Specs:
    """A specification that was judged. Widths are bits of the encoded integers, sign included."""

    numbers: Numbers

    @property
    def text(self) -> str:
        """What Concrete is given: in one spelling, with nothing in it but the numbers that were judged."""
        return json.dumps(self.numbers.document(), sort_keys=True)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the integers."""
        return self.numbers.source.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.numbers.result.shape

    @property
    def input_words(self) -> int:
        """Of 64 bits."""
        return self.numbers.source.words

    @property
    def output_words(self) -> int:
        return self.numbers.result.words

    @property
    def input_width(self) -> int:
        return self.numbers.source.width

    @property
    def output_width(self) -> int:
        return self.numbers.result.width

    @property
    def request(self) -> Frame:
        """What stands around the words of an input."""
        return frame_of(self.numbers.source)

    @property
    def reply(self) -> Frame:
        """What stands around the words of a result."""
        return frame_of(self.numbers.result)

    @property
    def lookups(self) -> bool:
        """Whether evaluation keys are needed."""
        return bool(self.numbers.bootstraps or self.numbers.keyswitches)

    @property
    def encryptions(self) -> tuple[Encryption, ...]:
        """Every kind of ciphertext and key, each once."""
        return tuple(dict.fromkeys(_encryptions(self.numbers)))

    def judge_frames(self, what: str, request: Frame, reply: Frame) -> None:
        """Raises `ProtocolError` naming `what` unless these are the frames of this specification's ciphertexts."""
        if (request, reply) != (self.request, self.reply):
            raise ProtocolError(f"{what}: frames of another circuit")

    def error_probability(self, norm: float, shift: int = 0) -> float:
        """How likely a result is wrong whose noise is the inputs' times a 2-norm: it leaves half a step of so many low bits.

        Steps are those of the encoding, above which one bit is free.
        """
        deviation = math.sqrt(self.encryptions[0].variance) * norm
        if deviation == 0:
            return 0.0
        return math.erfc(2.0 ** (shift - self.output_width - 2) / deviation / math.sqrt(2))

    def weak(self, security_bits: int) -> list[str]:
        """Every kind of ciphertext or key with less noise than `security_bits` want."""
        from hecompile.security.lwe import least_noise_bits

        return [
            f"{each.what} of dimension {each.dimension} with a noise of 2^{each.noise_bits:.1f} of the modulus, "
            f"below 2^{least_noise_bits(each.dimension, security_bits):.1f}"
            for each in self.encryptions
            if not each.noise_bits >= least_noise_bits(each.dimension, security_bits)
        ]


def _encryptions(numbers: Numbers) -> Iterator[Encryption]:
    for gate in (numbers.source, numbers.result):
        yield Encryption("a ciphertext", gate.dimension, gate.variance)
    for key in numbers.bootstraps:
        yield Encryption("a bootstrap key", key.dimension, key.variance)
    for switch in numbers.keyswitches:
        yield Encryption("a keyswitch key", switch.dimension, switch.variance)


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 62:
        raise ValueError(f"{value!r:.40} is no number of 62 bits")
    return value


def _real(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueError(f"{value!r:.40} is no number")
    return float(value)


def _gate(document: Any) -> Gate:
    found = document["typeInfo"]["lweCiphertext"]
    encryption, encoding = found["encryption"], found["encoding"]["integer"]
    return Gate(
        tuple(_whole(size) for size in found["abstractShape"]["dimensions"]),
        _whole(encoding["width"]),
        encoding["isSigned"] is True,
        _whole(encryption["keyId"]),
        _whole(encryption["lweDimension"]),
        _real(encryption["variance"]),
        found["compression"] == "seed",
    )


def _bootstrap(document: Any) -> Bootstrap:
    params = document["params"]
    numbers = [params[name] for name in ("inputLweDimension", "glweDimension", "polynomialSize", "baseLog", "levelCount")]
    source, target, *rest = map(_whole, (document["inputId"], document["outputId"], *numbers))
    return Bootstrap(source, target, rest[0], rest[1], rest[2], rest[3], rest[4], _real(params["variance"]))


def _keyswitch(document: Any) -> Keyswitch:
    params = document["params"]
    numbers = [params[name] for name in ("inputLweDimension", "outputLweDimension", "baseLog", "levelCount")]
    source, target, *rest = map(_whole, (document["inputId"], document["outputId"], *numbers))
    return Keyswitch(source, target, rest[0], rest[1], rest[2], rest[3], _real(params["variance"]))


def parse_specs(text: str) -> Specs:
    """A specification of one circuit with one encrypted input and one encrypted output. Raises `ProtocolError`."""
    if len(text) > MOST_CHARACTERS:
        raise ProtocolError(f"circuit specification: {len(text)} characters, at most {MOST_CHARACTERS} are read")
    document = parse_json(text, "circuit specification")
    try:
        (found,), keyset = document["circuits"], document["keyset"]
        (source,), (result,) = found["inputs"], found["outputs"]
        numbers = Numbers(
            str(found["name"]),
            _gate(source),
            _gate(result),
            tuple(_whole(key["params"]["lweDimension"]) for key in keyset["lweSecretKeys"]),
            tuple(_bootstrap(key) for key in keyset["lweBootstrapKeys"]),
            tuple(_keyswitch(key) for key in keyset["lweKeyswitchKeys"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ProtocolError(f"circuit specification: {type(error).__name__}: {str(error)[:200]}") from error
    specs = Specs(numbers)
    if json.dumps(document, sort_keys=True) != specs.text:
        raise ProtocolError("circuit specification: it says more than its numbers, or they do not fit together")
    return specs
