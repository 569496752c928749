"""Layers whose input is revealed in part: the sums are exact, the encoding is, and the noise stays under its bound."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.backends.bfv import revealed_product
from hecompile.backends.bfv.packing import Layout, layouts
from hecompile.backends.bfv.program import LayerProgram, region_program
from hecompile.backends.bfv.revealed import (
    pack_revealed,
    pack_sums,
    revealed_bytes,
    revealed_sums,
    sums_bytes,
    unpack_revealed,
    unpack_sums,
)
from hecompile.backends.bfv.revealed_product import RevealedProduct
from hecompile.backends.bfv.weights import weights_of
from hecompile.backends.region_client import RegionClient
from hecompile.backends.region_server import RegionServer
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import ClientHalf
from hecompile.ir.linear import conv2d, correlate
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.networks import Tiny, tiny_inputs
from tests.payloads import encrypt_whole
from tests.programs import program_of


@cache
def revealing(kind: str, granularity: str = "channel") -> Compiled:
    """`Tiny` with about half of its inner channels revealed, or of tiles of 2x2."""
    policy, tile = "min-distortion" if kind == "bfv" else None, "2x2" if granularity == "tile" else None
    options = CompileOptions(
        policy=policy, backend=kind, budget=0.5, importance="magnitude", max_batch=3, granularity=granularity, tile=tile
    )
    return compile_once(Tiny, options, tiny_inputs())


@pytest.fixture(scope="module", params=["bfv-channel", "bfv-tile", "clear-channel", "clear-tile"])
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return revealing(*request.param.split("-"))


def sides(compiled: Compiled) -> list[tuple[Any, RegionClient, RegionServer]]:
    loaded = []
    for region in program_of(compiled).calls.values():
        assert region.lowered is not None
        scheme = backend(region.backend)
        loaded.append((region, scheme.load_client(region.lowered.client), scheme.load_server(region.lowered.server)))
    return loaded


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_region_gives_the_reference_bit_for_bit(compiled: Compiled, batch: int) -> None:
    rng, splits = np.random.default_rng(batch), 0
    for region, client, server in sides(compiled):
        values = []
        for name in region.inputs:
            shape = program_of(compiled).plan.value(name).shape
            values.append(rng.standard_normal([batch if dim == "B" else int(dim) for dim in shape]).astype(np.float32))
        payload, pending = encrypt_whole(client, values, batch)
        assert len(payload) == client.request_bytes(batch) == server.request_bytes(batch)
        reply = server.evaluate(payload, batch)
        assert len(reply) == client.reply_bytes(batch)
        for got, want in zip(client.decrypt(reply, pending), region.reference(values), strict=True):
            np.testing.assert_array_equal(got, want)
        splits += any(linear_op.split.reveals for linear_op in region.linear_ops)
    assert splits == {"channel": 3, "tile": 2}[compiled.options.granularity]


def test_the_stated_bounds_hold_on_the_weights_of_the_server(compiled: Compiled) -> None:
    for region, _, _ in sides(compiled):
        assert backend(region.backend).check_proofs(region.lowered.server) == []


def layer(limit: int, bits: int, granularity: str = "channel") -> LayerProgram:
    """The first revealed layer of `Tiny`, with another quantiser."""
    regions = [
        region
        for region, _, _ in sides(revealing("clear", granularity))
        if any(linear_op.split.reveals for linear_op in region.linear_ops)
    ]
    first = next(candidate for candidate in region_program(regions[0].lowered.client).body.layers if candidate.split.reveals)
    return replace(first, parameters=replace(first.parameters, limit=limit), split=replace(first.split, bits=bits))


@pytest.mark.parametrize("bits", [2, 7, 8, 9, 11])
def test_the_sums_over_what_is_revealed_are_exact(bits: int) -> None:
    program, rng = layer(2047, bits), np.random.default_rng(bits)
    step, most = program.split.steps(2047)
    geometry = program.geometry
    channels = len(program.split.revealed) * geometry.down[0] * geometry.down[1]
    revealed = rng.integers(-most, most + 1, (2, channels, *geometry.picture[1:]))
    weights = rng.integers(-127, 128, (geometry.rows, channels, len(geometry.taps))).astype(np.int8)
    want = correlate(revealed * step, weights.astype(np.int64), geometry.taps, geometry.grid)
    np.testing.assert_array_equal(revealed_sums(program, revealed, weights), want)


def test_revealed_integers_survive_the_wire_and_larger_ones_are_refused() -> None:
    program = layer(100 + 127, 8)
    _, most = program.split.steps(program.parameters.limit)
    geometry = program.geometry
    shape = (
        2 * program.images_per_sample,
        len(program.split.revealed) * geometry.down[0] * geometry.down[1],
        *geometry.picture[1:],
    )
    integers = np.random.default_rng(0).integers(-most, most + 1, shape)
    data = pack_revealed(program, integers)
    assert len(data) == revealed_bytes(program, 2)
    np.testing.assert_array_equal(unpack_revealed(memoryview(data), program, 2), integers)
    integers[0, 0, 0, 0] = most + 1
    with pytest.raises(ProtocolError, match="beyond"):
        unpack_revealed(memoryview(pack_revealed(program, integers)), program, 2)


def test_revealed_tiles_and_their_sums_survive_the_wire() -> None:
    program, rng = layer(2047, 8, "tile"), np.random.default_rng(0)
    split, geometry = program.split, program.geometry
    assert split.tiles is not None
    pieces = rng.integers(-127, 128, split.revealed_shape(geometry, 2 * program.images_per_sample))
    data = pack_revealed(program, pieces)
    assert len(data) == revealed_bytes(program, 2)
    picture = unpack_revealed(memoryview(data), program, 2)
    np.testing.assert_array_equal(split.tiles.cut(picture, split.tiles.revealed), pieces)
    assert not split.tiles.cut(picture, split.tiles.encrypted).any()
    most = 2 ** (program.parameters.t_bits - 1) - 1
    sums = rng.integers(-most, most + 1, (2 * program.images_per_sample, geometry.rows, *geometry.grid))
    packed = pack_sums(program, sums)
    assert len(packed) == sums_bytes(program, 2)
    unpacked = unpack_sums(memoryview(packed), program, 2)
    assert unpacked is not None
    np.testing.assert_array_equal(unpacked, sums)


@settings(max_examples=20)
@given(elements=st.integers(1, 5), rows=st.integers(1, 9), size=st.sampled_from([(8, 8), (5, 7), (70, 30)]))
def test_what_is_read_can_be_put_back(elements: int, rows: int, size: tuple[int, int]) -> None:
    geometry, _ = conv2d(np.ones((rows, 3, 3, 3)), size, (1, 1), (1, 1), (1, 1), 1)
    layout: Layout
    for layout in layouts(geometry, 2048, elements):
        result = np.random.default_rng(0).integers(-99, 99, (elements, rows, *geometry.grid))
        np.testing.assert_array_equal(layout.gather(layout.scatter(result)), result)


def test_a_half_that_reveals_everything_or_more_bits_is_refused() -> None:
    import copy

    region = next(
        region for region, _, _ in sides(revealing("bfv")) if any(linear_op.split.revealed for linear_op in region.linear_ops)
    )
    half = region.lowered.client
    tiles = {"rows": 2, "columns": 2, "encrypted": [0]}
    changes = (
        {"revealed": [0, 1, 2, 3, 4, 5]},
        {"bits": 12},
        {"channels": 5},
        {"tiles": tiles},
        {"revealed": [], "tiles": tiles | {"rows": 3}},
    )
    for change in changes:
        program = copy.deepcopy(dict(half.program))
        program["layers"][0]["split"].update(change)
        with pytest.raises(ProtocolError):
            backend("bfv").load_client(ClientHalf(program, half.tensors))


@pytest.mark.slow
def test_channels_and_taps_of_zeros_are_not_multiplied() -> None:
    import torch

    network = Tiny().eval()
    with torch.no_grad():
        network.down.weight[:, 2] = 0
        network.down.weight[:, :, 0] = 0
    compiled = compile_model(network, options=CompileOptions(max_batch=1), example_inputs=tiny_inputs())
    linear_op = next(candidate for candidate in program_of(compiled).linear_ops if candidate.parts[0].path == "down")
    assert linear_op.split.absent == (2,)
    assert not linear_op.split.revealed
    assert isinstance(linear_op.split, ChannelSplit)
    full = compile_once(Tiny, CompileOptions(max_batch=1), tiny_inputs())
    before = next(candidate for candidate in program_of(full).linear_ops if candidate.parts[0].path == "down")
    assert len(linear_op.geometry.taps) < len(before.geometry.taps)


def revealing_layers(granularity: str) -> list[tuple[LayerProgram, Any, int]]:
    """Every layer of `Tiny` that reveals something, with the weights of what it reveals, at batches of one to three."""
    cases = []
    for region, _, _ in sides(revealing("bfv", granularity)):
        half = region.lowered.server
        program = region_program(half)
        for layer, weights in zip(program.body.layers, weights_of(half, program), strict=True):
            if layer.split.reveals:
                cases += [(layer, weights.for_revealed(layer.split), batch) for batch in (1, 2, 3)]
    return cases


@pytest.mark.parametrize("granularity", ["channel", "tile"])
def test_the_core_multiplies_what_is_revealed_as_floats_do(granularity: str) -> None:
    """Random entries, and the largest of one sign, whose sums are farthest from zero."""
    rng, layers = np.random.default_rng(0), revealing_layers(granularity)
    assert layers
    for layer, weights, batch in layers:
        _, most = layer.split.steps(layer.parameters.limit)
        shape = (batch * layer.images_per_sample, weights.shape[1], *layer.geometry.picture[1:])
        linear_op = RevealedProduct(layer, batch, weights)
        for values in (rng.integers(-most, most + 1, shape), np.full(shape, most), np.full(shape, -most)):
            np.testing.assert_array_equal(linear_op.sums(values), revealed_sums(layer, values, weights))


def test_large_layers_take_the_core_with_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for granularity in ("channel", "tile"):
        for place, (region, client, _) in enumerate(sides(revealing("bfv", granularity))):
            shapes = [program_of(revealing("bfv", granularity)).plan.value(name).at(2) for name in region.inputs]
            payload, _ = encrypt_whole(client, [rng.standard_normal(shape).astype(np.float32) for shape in shapes], 2)
            replies = []
            for least in (1, 1 << 62):
                monkeypatch.setattr(revealed_product, "LEAST_MACS", least)
                server = sides(revealing("bfv", granularity))[place][2]  # which chooses once
                replies.append(server.evaluate(payload, 2))
            assert replies[0] == replies[1]
