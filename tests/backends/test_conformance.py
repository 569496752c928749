"""One suite for every exact backend: `clear` is the oracle, and all give the reference bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.backends.region_client import RegionClient
from hecompile.backends.region_server import RegionServer
from hecompile.backends.registry import backend, backend_names
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.graph import concrete_shape
from hecompile.ir.halves import Half
from hecompile.ir.regions import CallRegion
from tests.payloads import encrypt_whole

BACKENDS = {"bfv": "tiny", "clear": "tiny_clear", "concrete": "tiny_concrete"}


@pytest.fixture(params=["bfv", "clear", pytest.param("concrete", marks=pytest.mark.fhe)])
def compiled(request: pytest.FixtureRequest) -> Compiled:
    found: Compiled = request.getfixturevalue(BACKENDS[request.param])
    return found


def halves(region: CallRegion) -> tuple[RegionClient, RegionServer]:
    assert region.lowered is not None
    chosen = backend(region.backend)
    return chosen.load_client(region.lowered.client), chosen.load_server(region.lowered.server)


def values_for(compiled: Compiled, region: CallRegion, batch: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    shapes = []
    for name in region.inputs:
        shape = compiled.program.plan.value(name).shape
        dims = tuple(int(d.removesuffix("B") or 1) * batch if isinstance(d, str) else d for d in shape)
        shapes.append((rng.standard_normal(concrete_shape(dims, batch)) * scale).astype(np.float32))
    return shapes


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_region_gives_the_reference_bit_for_bit(compiled: Compiled, batch: int) -> None:
    for region in compiled.program.calls.values():
        client, server = halves(region)
        values = values_for(compiled, region, batch)
        payload, pending = encrypt_whole(client, values, batch)
        reply = server.evaluate(payload, batch)
        assert (len(payload), len(reply)) == (client.request_bytes(batch), client.reply_bytes(batch))
        assert len(payload) == server.request_bytes(batch)
        for got, want in zip(client.decrypt(reply, pending), region.reference(values), strict=True):
            np.testing.assert_array_equal(got, want)


def test_an_element_does_not_depend_on_its_neighbours(compiled: Compiled) -> None:
    region = next(iter(compiled.program.calls.values()))
    client, server = halves(region)
    values = values_for(compiled, region, 3)
    results = []
    for batch in (1, 3):
        payload, pending = encrypt_whole(client, [value[:batch] for value in values], batch)
        results.append(client.decrypt(server.evaluate(payload, batch), pending))
    for alone, together in zip(*results, strict=True):
        np.testing.assert_array_equal(alone[0], together[0])


@pytest.mark.parametrize("kind", ["zero", "huge", "tiny", "nan", "inf"])
def test_odd_values_go_through_with_the_same_sizes(compiled: Compiled, kind: str) -> None:
    region = next(iter(compiled.program.calls.values()))
    client, server = halves(region)
    values = values_for(compiled, region, 1)
    fill = {"zero": 0.0, "huge": 3e38, "tiny": 1e-45, "nan": np.nan, "inf": np.inf}[kind]
    payload, pending = encrypt_whole(client, [np.full_like(value, fill) for value in values], 1)
    assert len(payload) == client.request_bytes(1)
    outputs = client.decrypt(server.evaluate(payload, 1), pending)
    assert all(output.dtype == np.float32 for output in outputs)


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_payloads_of_a_wrong_size_are_refused(compiled: Compiled, change: str) -> None:
    region = next(iter(compiled.program.calls.values()))
    client, server = halves(region)
    payload, pending = encrypt_whole(client, values_for(compiled, region, 1), 1)
    wrong = payload[:-1] if change == "shorter" else payload + b"\0"
    with pytest.raises(ProtocolError):
        server.evaluate(wrong, 1)
    with pytest.raises(ProtocolError):
        client.decrypt(wrong, pending)


def test_a_batch_beyond_the_largest_is_refused(compiled: Compiled) -> None:
    region = next(iter(compiled.program.calls.values()))
    _, server = halves(region)
    with pytest.raises(ProtocolError, match="1 to 3"):
        server.evaluate(b"", 4)


def test_words_that_are_not_below_q_are_refused(tiny: Compiled) -> None:
    region = next(iter(tiny.program.calls.values()))
    client, server = halves(region)
    with pytest.raises(ProtocolError, match="not below q"):
        server.evaluate(b"\xff" * client.request_bytes(1), 1)


@pytest.mark.parametrize("damage", ["dimension", "q", "limit", "packings", "missing", "dtype"])
def test_halves_that_make_no_sense_are_refused(tiny: Compiled, damage: str) -> None:
    import copy

    region = next(iter(tiny.program.calls.values()))
    assert region.lowered is not None
    half = region.lowered.server
    program, tensors = copy.deepcopy(dict(half.program)), dict(half.tensors)
    layer = program["layers"][0]  # type: ignore[index]
    if damage == "dimension":
        layer["parameters"]["dimension"] = 100
    elif damage == "q":
        layer["q"] += 2
    elif damage == "limit":
        layer["parameters"]["limit"] = 1 << 20
    elif damage == "packings":
        layer["packings"][0]["p_out"] = 10_000
    elif damage == "missing":
        del tensors["0.weights"]
    else:
        tensors["0.weights"] = tensors["0.weights"].astype(np.int16)
    with pytest.raises(ProtocolError):
        backend("bfv").load_server(Half(program, tensors))


def test_backends_have_names() -> None:
    assert set(BACKENDS) <= set(backend_names())
    with pytest.raises(CompileError, match=r"known: .*bfv, .*clear"):
        backend("nothing")
