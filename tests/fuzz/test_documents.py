"""Documents of regions damaged at random, under every backend: what is read of them ends well or in `ProtocolError`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.halves import ClientHalf
from hecompile.sampler_artifact import SamplerOptions, compile_sampler
from hecompile.untrusted import parse_json
from tests.backends.ckks.network import compiled
from tests.fuzz.budget import BRIEFLY_AND_LONGER, bounded_memory, damaged_for_a_while
from tests.fuzz.damage import damaged_document, damaged_text
from tests.fuzz.halves import concrete_half, lookup_half, stack_half, stored_halves
from tests.sampling import calls

WORDS = ["-1", "0", "9" * 30, "1e999", "%x0", "{", "he.rotate", "=", "nan", "\u0663", "(" * 1000]

pytestmark = pytest.mark.promise("documents")


def use(name: str, half: ClientHalf) -> None:
    """Everything that a client does with a half before it encrypts."""
    scheme = backend(name)
    scheme.check_security(half, 128)
    scheme.clear_inputs(half)
    scheme.describe(half)
    client = scheme.load_client(half)
    client.key_sizes()
    for batch in (1, client.max_batch):
        assert 0 < client.request_bytes(batch) <= 1 << 31
        assert 0 < client.reply_bytes(batch) <= 1 << 31


def damaged_tensors(tensors: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """The tensors with one removed, renamed, or given another type, shape or value; an unknown tensor if there were none."""
    changed = dict(tensors)
    if not changed:
        return {"more": np.zeros(3)}
    name = random.choice(list(changed))
    tensor = changed.pop(name)
    kind = random.randrange(7)
    if kind == 0:
        return changed
    if kind == 1:
        return {**changed, name + "_": tensor}
    changes = [
        lambda: tensor.astype(random.choice([np.float16, np.int64, np.uint8, np.float64])),
        lambda: tensor[..., None],
        lambda: np.broadcast_to(tensor, (7, *tensor.shape)),
        lambda: np.full(tensor.shape, random.choice([np.nan, np.inf, -3e38] if tensor.dtype.kind == "f" else [255]), tensor.dtype),
        lambda: tensor[:0],
    ]
    return {**changed, name: changes[kind - 2]()}


def damage(name: str, halves: list[ClientHalf], seconds: float) -> None:
    """Each half is fine as it is, and refused in words, or fine, when it is damaged."""
    for half in halves:
        use(name, half)

    def example(random: Random) -> None:
        half = random.choice(halves)
        program, tensors = json.loads(json.dumps(half.program)), half.tensors
        try:
            if random.random() < 0.15:
                tensors = damaged_tensors(tensors, random)
            elif random.random() < 0.5 and (inner := _inner(program)) is not None:
                holder, key = inner
                holder[key] = _damaged_inner(holder[key], random)
            else:
                program = parse_json(damaged_text(program, random), "document")
                if not isinstance(program, dict):
                    return
            use(name, ClientHalf(program, tensors))
        except ProtocolError:
            pass

    with bounded_memory():
        assert damaged_for_a_while(example, seconds) > 0


def _inner(program: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Where a document holds another one as text: a specification of Concrete, a slot program."""
    layers: Any = program.get("layers")
    for holder in (program, *(layers if isinstance(layers, list) else ())):
        for key in ("specs", "text"):
            if key in holder:
                return holder, key
    return None


def _damaged_inner(text: str, random: Random) -> str:
    if text.startswith("{"):
        if random.random() < 0.5:
            return damaged_text(json.loads(text), random).decode(errors="replace")
        return json.dumps(damaged_document(json.loads(text), random, times=1))
    lines = text.splitlines()
    for _ in range(random.randint(1, 3)):
        place, kind = random.randrange(len(lines)), random.randrange(5)
        if kind == 0:
            lines.insert(place, random.choice(lines))
        elif kind == 1 and len(lines) > 1:
            del lines[place]
        elif kind == 2:
            words = lines[place].split(" ")
            words[random.randrange(len(words))] = random.choice(WORDS)
            lines[place] = " ".join(words)
        elif kind == 3:
            digits = [spot for spot, letter in enumerate(lines[place]) if letter.isdigit()]
            if digits:
                spot = random.choice(digits)
                lines[place] = lines[place][:spot] + random.choice("0123456789") * random.choice([1, 5]) + lines[place][spot + 1 :]
        else:
            lines[place] = lines[place].replace(random.choice(["steps", "row", "table", "level", "scale", "rotate"]), "input", 1)
    return "\n".join(lines)


@BRIEFLY_AND_LONGER
def test_layers_under_bfv(tiny: Compiled, seconds: float) -> None:
    assert tiny.artifact is not None
    damage("bfv", stored_halves(tiny.artifact), seconds)


@BRIEFLY_AND_LONGER
def test_layers_under_clear(tiny_clear: Compiled, seconds: float) -> None:
    assert tiny_clear.artifact is not None
    damage("clear", stored_halves(tiny_clear.artifact), seconds)


@BRIEFLY_AND_LONGER
def test_sampler_steps(tmp_path: Path, seconds: float) -> None:
    compile_sampler(tmp_path / "dynamic", (1, 8, 8), options=SamplerOptions(dynamic=True))
    compile_sampler(tmp_path / "static", (1, 8, 8), calls((1, 8, 8)), SamplerOptions(tau=0.05, fill=False))
    damage("sampler_step", [*stored_halves(tmp_path / "dynamic"), *stored_halves(tmp_path / "static")], seconds)


@BRIEFLY_AND_LONGER
def test_circuits_of_concrete(seconds: float) -> None:
    damage("concrete", [concrete_half()], seconds)


@BRIEFLY_AND_LONGER
def test_stacks_of_concrete(seconds: float) -> None:
    damage("concrete_stacks", [stack_half()], seconds)


@BRIEFLY_AND_LONGER
def test_lookups_of_concrete(seconds: float) -> None:
    damage("concrete_lookups", [lookup_half()], seconds)


@pytest.mark.fhe
@BRIEFLY_AND_LONGER
def test_slot_programs(seconds: float) -> None:
    model, _ = compiled("ckks")
    assert model.artifact is not None
    halves = [half for half in stored_halves(model.artifact) if half.program["backend"] == "ckks"]
    assert halves
    damage("ckks", halves, seconds)
