"""The client's halves of regions of every backend, as small as they come, to be damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.concrete.limits import ValueLimits
from hecompile.backends.concrete.linear.program import ConcreteLayer, LinearBody
from hecompile.backends.concrete.lookups.program import LookupBody, Range
from hecompile.backends.concrete.parameters import Bootstrap, EncryptedTensor, Keyswitch, Numbers
from hecompile.backends.concrete.specs import Specs
from hecompile.backends.concrete.stacks.program import StackBody
from hecompile.backends.program_io import Document
from hecompile.ir.halves import ClientHalf
from hecompile.ir.linear import Part, conv2d

__all__ = ["concrete_half", "concrete_specs", "lookup_half", "stack_half", "stored_halves"]

NOISE = 5.380630583400453e-19  # of Concrete's own choice for the dimension


def concrete_specs(source: tuple[int, ...], result: tuple[int, ...], dimension: int = 1285, name: str = "convolve") -> Specs:
    """Of a circuit without lookups, as Concrete chooses it."""
    gates = (
        EncryptedTensor(source, 17, True, 0, dimension, NOISE, True),
        EncryptedTensor(result, 17, True, 0, dimension, NOISE, False),
    )
    return Specs(Numbers(name, *gates, (dimension,), (), ()))


def _half(document: Document[Any], **tensors: Any) -> ClientHalf:
    program: Mapping[str, object] = json.loads(json.dumps(document.as_json()))
    return ClientHalf(program, tensors)


def concrete_half() -> ClientHalf:
    """A convolution of 2 channels of 4x4 to 6, under `concrete`."""
    geometry, _ = conv2d(np.ones((6, 2, 3, 3)), (4, 4), (1, 1), (1, 1), (1, 1), 1)
    specs = concrete_specs((1, 2, 4, 4), (1, 6, 4, 4))
    parts = (Part("first", 6, "first", "net.py:1"),)
    layer = ConcreteLayer("sample", 1, geometry, parts, ValueLimits(165, 180), 65250, specs.text, specs.request, specs.reply)
    document = Document("call_01", "concrete", ("sample",), ("first",), LinearBody(3, 2.0**-40, (layer,)))
    return _half(document, **{"0.scales": np.ones(6), "0.bias": np.zeros(6, np.float32)})


def stack_half() -> ClientHalf:
    """Two inputs of 32 and 5 entries to one of 48, under `concrete_stacks`."""
    specs = concrete_specs((1, 37), (1, 48), name="evaluate")
    body = StackBody(
        2, 2.0**-40, ((2, 4, 4), (5,)), ((3, 4, 4),), (0.02, 0.01),
        127, 33000, 62.5, 0, 824, 2, 60.0, specs.text, specs.request, specs.reply,
    )  # fmt: skip
    document = Document("call_01", "concrete_stacks", ("sample", "label"), ("add",), body)
    return _half(document, units=np.ones(48), offset=np.zeros(48, np.float32))


def lookup_half() -> ClientHalf:
    """A region of 2 channels of 4x4 with two kinds of bootstraps, under `concrete_lookups`."""
    noise = 8.442253112932959e-31
    source, result = (EncryptedTensor((1, 2, 4, 4), 9, True, 0, 2048, noise, seeded) for seeded in (True, False))
    numbers = Numbers(
        "_clear_forward_proxy", source, result, (2048, 596, 4096, 787),
        (Bootstrap(1, 0, 596, 4, 512, 23, 1, noise), Bootstrap(3, 2, 787, 1, 4096, 15, 2, 4.70197740328915e-38)),
        (
            Keyswitch(0, 1, 2048, 596, 3, 3, 2.456709512850741e-08), Keyswitch(0, 3, 2048, 787, 2, 8, 2.7251621928296953e-11),
            Keyswitch(2, 0, 4096, 2048, 25, 1, noise),
        ),
    )  # fmt: skip
    specs = Specs(numbers)
    body = LookupBody(
        2, 2.0**-40, specs.text, specs.request, specs.reply, Range(0.4, -8, 7),
        0.003, numbers.key_bytes + 776, 160, 1.6e10, "4 bits, lookups of 5", 29.8,
    )  # fmt: skip
    document = Document("call_02", "concrete_lookups", ("add",), ("after",), body)
    return _half(document, **{"source.zero": np.zeros(1), "result.zero": np.zeros((1, 2, 1, 1))})


def stored_halves(artifact: Path) -> list[ClientHalf]:
    """Of every call region of an artifact."""
    manifest = read_manifest(artifact)
    return [
        read_client_half(artifact, manifest.files, f"client/{step.region}") for step in manifest.plan.steps if step.kind == "call"
    ]
