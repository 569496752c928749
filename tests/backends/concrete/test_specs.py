"""What is believed of a circuit's specification, and what is refused before Concrete sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hecompile.backends.concrete.frames import Frame
from hecompile.backends.concrete.specs import parse_specs
from hecompile.errors import CompileError, ProtocolError
from hecompile.security.lwe import least_noise_bits


def specification(dimension: int = 1533, variance: float = 7.834739995672058e-23, key_type: str = "binary") -> dict[str, Any]:
    """As Concrete 2.10 writes it for a convolution of 16 channels of 8x8."""

    def gate(words: int, compression: str) -> dict[str, Any]:
        ciphertext = {
            "abstractShape": {"dimensions": [1, 16, 8, 8]},
            "compression": compression,
            "concreteShape": {"dimensions": [1, 16, 8, 8, words]},
            "encoding": {"integer": {"width": 22, "isSigned": True, "mode": {"native": {}}}},
            "encryption": {
                "keyId": 0, "variance": variance, "lweDimension": dimension, "modulus": {"modulus": {"native": {}}}
            },
            "integerPrecision": 64,
        }  # fmt: skip
        raw = {"integerPrecision": 64, "isSigned": False, "shape": {"dimensions": [1, 16, 8, 8, words]}}
        return {"rawInfo": raw, "typeInfo": {"lweCiphertext": ciphertext}}

    keys = [{"id": 0, "params": {"lweDimension": dimension, "integerPrecision": 64, "keyType": key_type}}]
    keyset = {"lweSecretKeys": keys, "lweBootstrapKeys": [], "lweKeyswitchKeys": [], "packingKeyswitchKeys": []}
    circuit = {"inputs": [gate(3, "seed")], "outputs": [gate(dimension + 1, "none")], "name": "convolve"}
    return {"keyset": keyset, "circuits": [circuit]}


def test_concretes_own_parameters_pass() -> None:
    specs = parse_specs(json.dumps(specification()))
    assert specs.weak(128) == []
    assert (specs.input_words, specs.output_words) == (1024 * 3, 1024 * 1534)
    assert (specs.input_width, specs.output_width, specs.lookups) == (22, 22, False)


@pytest.mark.promise("128-bits")
@pytest.mark.parametrize(("dimension", "variance"), [(1533, 1e-25), (1533, 0.0), (1400, 7.8e-23), (300, 1e-5), (4000, 1e-40)])
def test_too_little_noise_is_told(dimension: int, variance: float) -> None:
    (reason,) = parse_specs(json.dumps(specification(dimension, variance))).weak(128)
    assert f"dimension {dimension}" in reason


def test_keys_are_judged_too() -> None:
    document = specification(dimension=2048)
    params = {
        "baseLog": 23, "glweDimension": 1, "inputLweDimension": 2048, "integerPrecision": 64, "keyType": "binary", "levelCount": 1,
        "modulus": {"modulus": {"native": {}}}, "polynomialSize": 2048, "variance": 1e-40,
    }  # fmt: skip
    document["keyset"]["lweBootstrapKeys"] = [{"compression": "seed", "id": 0, "inputId": 0, "outputId": 0, "params": params}]
    (reason,) = parse_specs(json.dumps(document)).weak(128)
    assert "a bootstrap key of dimension 2048" in reason


@pytest.mark.parametrize("damage", ["no json", "no circuits", "two circuits", "modulus", "ternary", "shape"])
def test_specifications_that_make_no_sense_are_refused(damage: str) -> None:
    document = specification(key_type="ternary" if damage == "ternary" else "binary")
    gate = document["circuits"][0]["inputs"][0]["typeInfo"]["lweCiphertext"]
    if damage == "no circuits":
        document["circuits"] = []
    elif damage == "two circuits":
        document["circuits"] *= 2
    elif damage == "modulus":
        gate["encryption"]["modulus"] = {"modulus": {"powerOfTwo": {"power": 10}}}
    elif damage == "shape":
        del gate["abstractShape"]
    text = "{" if damage == "no json" else json.dumps(document)
    with pytest.raises(ProtocolError, match="specification"):
        parse_specs(text)


def test_there_is_a_table_for_one_level_only() -> None:
    with pytest.raises(CompileError, match="128"):
        least_noise_bits(1000, 256)


@pytest.mark.promise("concrete-words")
def test_frames_hold_words_and_nothing_else() -> None:
    frame = parse_specs(json.dumps(specification())).request
    head, tail, words = bytes.fromhex(frame.head), bytes.fromhex(frame.tail), b"\x5a" * frame.size
    assert frame.wrap(words) == head + words + tail
    assert bytes(frame.unwrap(head + words + tail)) == words
    with pytest.raises(ProtocolError, match=f"{frame.size} bytes"):
        frame.wrap(b"short")
    for other in (head + words + tail[:-1] + b"L", b"L" + head[1:] + words + tail, head + words[:-8] + tail, b""):
        with pytest.raises(ProtocolError, match="in another way"):
            frame.unwrap(other)
    with pytest.raises(ProtocolError):
        Frame("xyz", 8, "00")


@pytest.mark.promise("specifications")
def test_what_concrete_is_given_is_built_from_the_numbers() -> None:
    document = specification()
    assert json.loads(parse_specs(json.dumps(document)).text) == document
