"""Reading the client's specification of a circuit: what Concrete's client makes keys and ciphertexts from.

Judged by our own table before Concrete sees it: whoever wrote the artifact may have chosen a noise that hides nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hecompile.errors import ProtocolError
from hecompile.security.lwe import least_noise_bits

__all__ = ["Encryption", "Specs", "parse_specs"]


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
    """What we read of a specification. Widths are bits of the encoded integers, sign included."""

    text: str
    input_shape: tuple[int, ...]  # of the integers
    output_shape: tuple[int, ...]
    input_words: int  # of 64 bits
    output_words: int
    input_width: int
    output_width: int
    encryptions: tuple[Encryption, ...]
    lookups: bool  # whether evaluation keys are needed

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
        return [
            f"{each.what} of dimension {each.dimension} with a noise of 2^{each.noise_bits:.1f} of the modulus, "
            f"below 2^{least_noise_bits(each.dimension, security_bits):.1f}"
            for each in self.encryptions
            if not each.noise_bits >= least_noise_bits(each.dimension, security_bits)
        ]


def _encryptions(document: Mapping[str, Any]) -> Iterator[Encryption]:
    keyset = document["keyset"]
    for gate in (*document["circuits"][0]["inputs"], *document["circuits"][0]["outputs"]):
        found = gate["typeInfo"]["lweCiphertext"]["encryption"]
        if found["modulus"] != {"modulus": {"native": {}}}:
            raise ValueError("a modulus other than 2^64")
        yield Encryption("a ciphertext", int(found["lweDimension"]), float(found["variance"]))
    for key in keyset["lweBootstrapKeys"]:
        params = key["params"]
        yield Encryption("a bootstrap key", params["glweDimension"] * params["polynomialSize"], float(params["variance"]))
    dimensions = {key["id"]: int(key["params"]["lweDimension"]) for key in keyset["lweSecretKeys"]}
    for key in keyset["lweKeyswitchKeys"]:
        yield Encryption("a keyswitch key", dimensions[key["outputId"]], float(key["params"]["variance"]))
    for key in keyset["packingKeyswitchKeys"]:
        params = key["params"]
        yield Encryption("a packing key", params["glweDimension"] * params["polynomialSize"], float(params["variance"]))


def parse_specs(text: str) -> Specs:
    """A specification of one circuit with one encrypted input and one encrypted output. Raises `ProtocolError`."""
    try:
        document = json.loads(text)
        (circuit,) = document["circuits"]
        gates = (*circuit["inputs"], *circuit["outputs"])
        source, result = (gate["typeInfo"]["lweCiphertext"] for gate in gates)
        shapes = [tuple(int(size) for size in gate["rawInfo"]["shape"]["dimensions"]) for gate in gates]
        if any(key["params"]["keyType"] != "binary" for key in document["keyset"]["lweSecretKeys"]):
            raise ValueError("keys that are not binary")
        keyset = document["keyset"]
        return Specs(
            text,
            tuple(source["abstractShape"]["dimensions"]),
            tuple(result["abstractShape"]["dimensions"]),
            math.prod(shapes[0]),
            math.prod(shapes[1]),
            int(source["encoding"]["integer"]["width"]),
            int(result["encoding"]["integer"]["width"]),
            tuple(dict.fromkeys(_encryptions(document))),
            bool(keyset["lweBootstrapKeys"] or keyset["lweKeyswitchKeys"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ProtocolError(f"circuit specification: {type(error).__name__}: {error}") from error
