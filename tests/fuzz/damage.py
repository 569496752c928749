"""Damage at random: to documents, to bytes, and to ONNX files."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

import onnx

__all__ = ["damaged_bytes", "damaged_document", "damaged_onnx", "damaged_text"]

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 255, 2**31, -(2**31), 2**53, 2**63, 2**64, 10**30, -(10**300), 0.0, -0.0, 0.5, 1e-320, 1e308,
    "", "0", "B", "xB", "0B", "999999999B", "..", "../..", "/etc/passwd", "a" * 5000, "\0", "\x1b[31m", "é", "%s",
    "client", "call_01", "sample", "timestep", "sampler_step", "clear", "bfv", "nothing",
    [], [[]], {}, {"a": {}}, [0] * 1000, [[0] * 50] * 50,
]  # fmt: skip

KINDS = ["Loop", "If", "Gather", "Div", "Mod", "Expand", "Reshape", "MatMul", "Concat", "Identity", "Cast", "Where"]


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container and key within a document."""
    places, stack = list[tuple[Any, Any]](), [document]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            stack.append(node[key])
    return places


def damaged_document(document: Any, random: Random, times: int = 3) -> Any:
    """A copy with a few values replaced, removed, repeated, moved, renamed or nudged."""
    copy = json.loads(json.dumps(document))
    for _ in range(random.randint(1, times)):
        places = _places(copy)
        if not places:
            return deepcopy(random.choice(ODD))
        node, key = random.choice(places)
        kind = random.randrange(7)
        if kind == 0 or (kind == 6 and not isinstance(node[key], int | float)):
            node[key] = deepcopy(random.choice(ODD))
        elif kind == 1:
            del node[key]
        elif kind == 2 and isinstance(node, list):
            node.insert(random.randint(0, len(node)), deepcopy(node[key]))
        elif kind == 3:
            other, there = random.choice(places)
            other[there] = deepcopy(node[key])
        elif kind == 4 and isinstance(node, dict):
            node[random.choice(["a", "kind", "modulus", key + "_", key.upper()])] = deepcopy(node[key])
        elif kind == 5 and isinstance(node[key], list):
            node[key] = deepcopy(node[key] * random.choice([0, 2, 50 if len(places) < 5000 else 2]))
        elif kind == 6:
            node[key] = node[key] + random.choice([-1, 1, -node[key], node[key], 2**20])
    return copy


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """Bits flipped, bytes cut off, repeated, put in or replaced by large numbers."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, max(0, len(changed) - 1))
        kind = random.randrange(6)
        if kind == 0 and changed:
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            changed[place:place] = changed[place : place + random.choice([1, 8, 64, 1000])]
        elif kind == 3:
            changed[place:place] = random.randbytes(random.choice([1, 2, 4, 8]))
        elif kind == 4:
            changed[place : place + 8] = random.choice([b"\xff" * 8, bytes(8), b"\x80" * 8, (1 << 40).to_bytes(8, "little")])
        else:
            del changed[place : place + random.choice([1, 8, 64])]
    return bytes(changed)


def damaged_text(document: Any, random: Random) -> bytes:
    """A damaged document as text, sometimes with a key twice, with brackets without end, or with numbers that JSON has not."""
    text = json.dumps(damaged_document(document, random)).encode()
    kind = random.randrange(8)
    if kind == 0 and b'": ' in text:
        key = text[: text.index(b'": ') + 1].rpartition(b'"')[0].rpartition(b'"')[2]
        return text.replace(b"{", b'{"' + key + b'": 0, ', 1)
    if kind == 1:
        return text.replace(
            b": ", b": " + random.choice([b"[" * 100_000, b"NaN", b"1e999", b"-Infinity", b"1" * 5000, b'"\\ud800"']), 1
        )
    return damaged_bytes(text, random) if kind == 2 else text


def damaged_onnx(data: bytes, random: Random) -> bytes:
    """A model with nodes, attributes, constants or names changed, still of the form that protobuf reads."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    for _ in range(random.randint(1, 3)):
        node = random.choice(graph.node)
        kind = random.randrange(9)
        if kind == 0:
            node.op_type = random.choice(
                ["Loop", "If", "Gather", "Div", "Mod", "Expand", "Reshape", "MatMul", "Concat", "Identity", "Cast", "Where"]
            )
        elif kind == 1 and node.input:
            node.input[random.randrange(len(node.input))] = random.choice(
                [item.name for item in (*graph.initializer, *graph.input)] + [""]
            )
        elif kind == 2 and node.attribute:
            attribute = random.choice(node.attribute)
            attribute.i = random.choice([0, -1, 1, 2**31, -(2**62)])
            attribute.ints[:] = [random.choice([0, 1, -1, 2**40]) for _ in attribute.ints]
        elif kind == 3 and graph.initializer:
            tensor = random.choice(graph.initializer)
            tensor.dims[:] = [random.choice([0, 1, -1, 3, 2**31, 2**62]) for _ in tensor.dims]
        elif kind == 4 and graph.initializer:
            tensor = random.choice(graph.initializer)
            tensor.raw_data = damaged_bytes(tensor.raw_data, random)
        elif kind == 5:
            graph.node.append(node)
        elif kind == 6:
            value = random.choice([*graph.input, *graph.output])
            dims = value.type.tensor_type.shape.dim
            if dims:
                random.choice(dims).dim_value = random.choice([0, -1, 1, 2**31, 2**62])
        elif kind == 7 and graph.initializer:
            tensor = random.choice(graph.initializer)
            tensor.data_type = random.choice([0, 1, 7, 8, 9, 16, 99])
        else:
            del graph.node[random.randrange(len(graph.node))]
            if not graph.node:
                break
    changed: bytes = model.SerializeToString()
    return changed
