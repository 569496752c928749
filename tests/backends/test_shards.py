"""Shards of a region under `bfv`: together they answer with the bytes of one server, whatever the layers, batch and mode."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from hecompile.backends.bfv.messages import FIRST, LATER, mode_bytes
from hecompile.backends.bfv.program import region_program
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, InternalError, ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.networks import Long, Tiny, tiny_inputs
from tests.payloads import encrypt_whole, sizes
from tests.programs import program_of


def wide() -> Long:
    """Layers on one value of which one has many answers, and one a single answer that is not full."""
    return Long(torch.nn.Conv2d(9, 37, 3, padding=1), torch.nn.Conv2d(9, 5, 1))


@cache
def compiled(kind: str) -> Compiled:
    """Networks whose layers have answers of one and of many outputs, several blocks, and reveals by channels and by tiles."""
    if kind == "wide":
        return compile_once(wide, CompileOptions(max_batch=5), {"sample": torch.ones(2, 9, 24, 24)})
    if kind == "tiny":
        return compile_once(Tiny, CompileOptions(max_batch=3), tiny_inputs())
    granularity, tile = ("tile", "2x2") if kind == "tiles" else ("channel", None)
    options = CompileOptions(
        policy="min-distortion", budget=0.5, importance="magnitude", max_batch=3, granularity=granularity, tile=tile
    )
    return compile_once(Tiny, options, tiny_inputs())


def regions(kind: str) -> Iterator[tuple[ClientHalf, ServerHalf]]:
    for region in program_of(compiled(kind)).calls.values():
        assert region.lowered is not None
        yield region.lowered.client, region.lowered.server


def requests(client_half: ClientHalf, batch: int) -> Iterator[bytes]:
    """One that brings seeds and, where seeds serve several requests, the same without them."""
    client, program = backend("bfv").load_client(client_half), region_program(client_half)
    numbers, values = np.random.default_rng(batch), {}
    for layer in program.body.layers:
        geometry, count = layer.geometry, batch * layer.images_per_sample
        shape = (count, *geometry.size[:1], geometry.channels) if geometry.tokens else (count, geometry.channels, *geometry.size)
        values[layer.input] = numbers.standard_normal(shape).astype(np.float32)
    payload, _ = encrypt_whole(client, [values[name] for name in client.inputs], batch)
    yield payload
    if start := mode_bytes(program):
        later = [bytes([LATER])]
        for layer in program.body.layers:
            size = sizes(layer, batch, FIRST)
            part, start = payload[start : start + size.up], start + size.up
            seeds = slice(size.up_words, size.up_words + (size.up_seeds if layer.requests > 1 else 0))
            later += [part[: seeds.start], part[seeds.stop :]]
        yield b"".join(later)


@pytest.mark.parametrize("kind", ["tiny", "wide", "channels", "tiles"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_together_answer_with_the_bytes_of_one_server(kind: str, count: int) -> None:
    modes = 0
    for client, server in regions(kind):
        whole = backend("bfv").load_server(server)
        shards = [backend("bfv").load_shard(server, index, count) for index in range(count)]
        joining = pickle.loads(pickle.dumps(shards[0].joining))
        assert {shard.request_bytes(1) for shard in shards} == {whole.request_bytes(1)}
        for batch in range(1, whole.max_batch + 1):
            for payload in requests(client, batch):
                replies = {index: shards[index].evaluate(payload, batch) for index in joining.shards(batch)}
                assert joining.join(payload, batch, replies) == whole.evaluate(payload, batch)
                modes += 1
    assert modes > len(program_of(compiled(kind)).calls)


def test_every_shard_of_a_wide_layer_has_less_to_do_than_the_whole() -> None:
    _, server = next(regions("wide"))
    shards = [backend("bfv").load_shard(server, index, 2) for index in range(2)]
    whole = backend("bfv").load_server(server)
    weights = [sum(part.weight_bytes for part in shard._parts.values()) for shard in shards]  # type: ignore[attr-defined]
    assert max(weights) < 0.75 * whole.weight_bytes  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", ["short", "long", "mode", "word"])
def test_a_shard_refuses_what_one_server_refuses(damage: str) -> None:
    client, server = next(regions("wide"))
    payload = next(requests(client, 1))
    first, rest = payload[:1], payload[1:]
    bad = {"short": payload[:-1], "long": payload + b"\0", "mode": b"\7" + rest, "word": first + b"\xff" * len(rest)}[damage]
    with pytest.raises(ProtocolError):
        backend("bfv").load_server(server).evaluate(bad, 1)
    for index in range(2):
        with pytest.raises(ProtocolError):
            backend("bfv").load_shard(server, index, 2).evaluate(bad, 1)


def test_replies_of_another_length_are_no_shares() -> None:
    client, server = next(regions("wide"))
    payload = next(requests(client, 1))
    shards = [backend("bfv").load_shard(server, index, 2) for index in range(2)]
    replies = {index: bytes(shard.evaluate(payload, 1)) for index, shard in enumerate(shards)}
    for wrong in (replies[0][:-1], replies[0] + b"\0"):
        with pytest.raises(InternalError, match="than its share"):
            shards[0].joining.join(payload, 1, {**replies, 0: wrong})


def test_backends_that_do_not_divide_their_regions_say_so(tiny_clear: Compiled) -> None:
    region = next(iter(program_of(tiny_clear).calls.values()))
    assert region.lowered is not None
    with pytest.raises(CompileError, match="backend 'clear', whose regions are not divided"):
        backend("clear").load_shard(region.lowered.server, 0, 2)
