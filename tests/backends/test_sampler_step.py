"""The sampler's step is exact on integers, its noise lies under the bound, and broken requests are refused."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile import _core
from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.bfv.rings import prime
from hecompile.backends.sampler_step.backend import SamplerStepBackend
from hecompile.backends.sampler_step.choose import choose_parameters
from hecompile.backends.sampler_step.client import SamplerStepClient
from hecompile.backends.sampler_step.layout import core_layout
from hecompile.backends.sampler_step.program import SamplerStepBody, sampler_step_program
from hecompile.backends.sampler_step.server import SamplerStepServer
from hecompile.backends.sampler_step.support import DynamicSupport, filled
from hecompile.backends.words import pack_signed, unpack_bits, unpack_signed
from hecompile.compiler import compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.linear import Array
from hecompile.options import CompileOptions
from hecompile.sparsity.importance import magnitude
from hecompile.sparsity.selection import select
from tests.native.core_hooks import secrets_of
from tests.native.reference import Ring, multiply
from tests.networks import Tiny, tiny_inputs
from tests.payloads import encrypt_whole
from tests.sampling import SHAPE, artifact

ENTRIES = math.prod(SHAPE)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> ClientHalf:
    folder = tmp_path_factory.mktemp("sampler") / "a"
    artifact(folder)
    return read_client_half(folder, read_manifest(folder).files, "client/sampler")


def sides(half: ClientHalf) -> tuple[SamplerStepClient, SamplerStepServer]:
    client, server = SamplerStepBackend().load_client(half), SamplerStepBackend().load_server(ServerHalf(half.program, {}))
    assert isinstance(client, SamplerStepClient)
    assert isinstance(server, SamplerStepServer)
    return client, server


def step(half: ClientHalf, x: Array, e: Array, f: float, g: float) -> Array:
    client, server = sides(half)
    payload, pending = encrypt_whole(client, [x, e, np.array([500.0, f, g])], len(x))
    assert len(payload) <= client.request_bytes(len(x)) == server.request_bytes(len(x))
    reply = server.evaluate(payload, len(x))
    assert len(reply) <= client.reply_bytes(len(x))
    return client.decrypt(reply, pending)[0]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("f", "g"), [(1.02, -0.05), (14.6, -0.07), (-1.0, 3.0), (1.0, 0.0)])
def test_the_step_is_that_of_rounded_numbers(half: ClientHalf, batch: int, f: float, g: float) -> None:
    """Within half a unit of each rounding: of x, e, f and g."""
    x, e = np.random.default_rng(1).standard_normal((2, batch, *SHAPE))
    peak = np.abs(np.stack([x, e])).max()
    limit = peak / (2**11 - 1)  # a unit of what is revealed, the coarser one
    weight = (abs(f) + abs(g)) / (2**12 - 1)
    bound = (abs(f) + abs(g)) * limit / 2 + weight / 2 * (np.abs(x) + np.abs(e)) + weight * limit
    assert (np.abs(step(half, x, e, f, g) - (f * x + g * e)) <= bound + 1e-6).all()


def test_whole_numbers_come_back_exactly(half: ClientHalf) -> None:
    """With entries that are integers of the quantiser and F = f: no rounding anywhere, so no error."""
    program = sampler_step_program(half)
    weight, limit = program.body.weight - 1, program.body.parameters.limit
    mask = sides(half)[0].support.choose(np.zeros((2, *SHAPE)), 0.0)
    rng = np.random.default_rng(2)
    x, e = (np.where(mask, rng.choice([-limit, limit], mask.shape), rng.choice([-2047, 2047], mask.shape)) for _ in range(2))
    f, g = 3000.0, float(3000 - weight)
    assert np.array_equal(step(half, x, e, f, g), (f * x + g * e).astype(np.float32))


def test_noise_lies_under_the_bound(half: ClientHalf) -> None:
    program = sampler_step_program(half)
    body, parameters, q = program.body, program.body.parameters, program.body.q
    ring = Ring(parameters.dimension, q, parameters.t_bits)
    f, g = 3 * body.weight // 4, -(body.weight // 4)
    rng = np.random.default_rng(3)
    pairs = rng.choice([-parameters.limit, parameters.limit], (2, 2, ring.n))
    layout = core_layout(program, 2)
    out = bytearray(layout.up_bytes + layout.seeds * _core.SEED_BYTES)
    request = _core.encrypt([layout], [pairs], [b"noise"], out, [0])
    secrets = secrets_of(request)
    b = unpack_bits(memoryview(out)[: layout.up_bytes], 4 * ring.n, parameters.q_bits).reshape(2, 2, ring.n).astype(object)
    a = _core.public_words(layout, memoryview(out)[layout.up_bytes :], b"noise").reshape(2, ring.n).astype(object)

    def rounded(words: Array, drop: int) -> Array:
        return ((f * words[0] + g * words[1]) % q + (1 << drop >> 1)) // (1 << drop) * (1 << drop) % q

    for pair, words, secret in zip(pairs, b, secrets, strict=True):
        message = (f * pair[0] + g * pair[1]).astype(object)
        product = np.array(multiply(ring, rounded(a, body.drops.a).tolist(), secret), object)
        phase = rounded(words, body.drops.b) + product
        noise = np.abs((phase - message * ((q - 1) // ring.t) + q // 2) % q - q // 2).max()
        assert 0 < noise <= body.noise_bound <= q / 2 / ring.t - 1


@given(st.integers(1, 400_000))
@settings(max_examples=10, deadline=None)
def test_parameters_are_proved_and_secure_for_every_size(entries: int) -> None:
    parameters, q, drops = choose_parameters(entries)
    assert parameters.q_bits <= 50
    assert 21 * 4096 + 0.5 + 2.0 ** (drops.b - 1) + parameters.dimension * 2.0 ** (drops.a - 1) <= q / 2 / 2**parameters.t_bits - 1
    assert 4096 * parameters.limit <= 2 ** (parameters.t_bits - 1) - 1


@given(st.lists(st.integers(-2048, 2047)), st.integers(12, 30))
def test_signed_integers_come_back(values: list[int], bits: int) -> None:
    data = pack_signed(np.array(values, np.int64), bits)
    assert unpack_signed(memoryview(data), len(values), bits).tolist() == values


def request(half: ClientHalf) -> bytearray:
    x = np.random.default_rng(5).standard_normal((1, *SHAPE))
    return bytearray(encrypt_whole(sides(half)[0], [x, x, np.array([500.0, 1.0, -0.1])], 1)[0])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ((4096, 1, None), "at most 4096 was proved"),
        ((-(2**31), 0, None), "was proved"),
        ((1, 1, 0), "not what the artifact declares"),
        ((1, 1, 2**32 - 1), "not what the artifact declares"),
    ],
)
def test_headers_beyond_the_proof_or_the_declaration_are_refused(
    half: ClientHalf, header: tuple[int, int, int | None], reason: str
) -> None:  # fmt: skip
    payload, server = request(half), sides(half)[1]
    f, g, clear = header
    payload[:12] = struct.pack("<iiI", f, g, sampler_step_program(half).body.clear[0] if clear is None else clear)
    with pytest.raises(ProtocolError, match=reason):
        server.evaluate(bytes(payload), 1)


def test_broken_requests_are_refused(half: ClientHalf) -> None:
    payload, server = request(half), sides(half)[1]
    for broken, batch in ((payload[:-1], 1), (payload + b"x", 1), (b"", 1), (payload, 2), (payload, 4), (payload, 0)):
        with pytest.raises(ProtocolError):
            server.evaluate(bytes(broken), batch)
    program = sampler_step_program(half)
    sizes = program.body.sizes(1, program.body.clear[0])
    start = 12 + 2 * sizes.up_clear
    payload[start : start + 6] = b"\xff" * 6
    with pytest.raises(ProtocolError, match="not below q"):
        server.evaluate(bytes(payload), 1)


def test_masks_that_say_otherwise_are_refused(half: ClientHalf) -> None:
    masks = half.tensors["masks"].copy()
    masks[0, 0] ^= 0xFF
    with pytest.raises(ProtocolError, match="than it declares"):
        SamplerStepBackend().load_client(ClientHalf(half.program, {"masks": masks}))
    with pytest.raises(ProtocolError, match="missing"):
        SamplerStepBackend().load_client(ClientHalf(half.program, {}))
    two = np.concatenate([half.tensors["masks"], np.roll(half.tensors["masks"], 1, axis=1)])
    clear = [int(ENTRIES - np.unpackbits(row).sum()) for row in two]
    with pytest.raises(ProtocolError, match="not nested"):
        SamplerStepBackend().load_client(ClientHalf({**half.program, "clear": clear}, {"masks": two}))


def test_programs_out_of_range_are_refused(half: ClientHalf) -> None:
    program = sampler_step_program(half)
    wrong: list[dict[str, object]] = [
        {"weight_bits": 20}, {"q": program.body.q + 2}, {"drops": {"a": -1, "b": 0}}, {"shape": (0, 1, 1)}, {"max_batch": 0},
        {"reveal_bits": 24}, {"clear": (ENTRIES,)}, {"most_clear": 1}, {"backend": "bfv"}, {"drops": {"a": 40, "b": 0}},
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(ProtocolError):
            SamplerStepBackend().load_client(ClientHalf({**half.program, **changes}, half.tensors))


@pytest.mark.parametrize(("q", "reason"), [(2**54 - 33, "words of 54 bits"), (2**48 - 2**32 + 1, "not the table's prime")])
def test_other_rings_than_those_of_the_table_are_refused(half: ClientHalf, q: int, reason: str) -> None:
    parameters: dict[str, object] = {**half.program["parameters"], "q_bits": q.bit_length()}  # type: ignore[dict-item]
    weak = {**half.program, "q": q, "parameters": parameters, "weight_bits": 8}
    with pytest.raises(ProtocolError, match=reason):
        SamplerStepBackend().check_security(ClientHalf(weak, half.tensors), 128)


def test_64_secrets_under_one_seed_are_counted(half: ClientHalf) -> None:
    assert SamplerStepBackend().check_security(half, 128) == []
    assert "64 secrets under one seed" in SamplerStepBackend().check_security(half, 1000)[0]


def test_the_chosen_ring_is_of_the_table(half: ClientHalf) -> None:
    body = sampler_step_program(half).body
    assert body.q == prime(body.parameters.q_bits, body.parameters.t_bits)
    assert body.weight * body.parameters.limit < 2 ** (body.parameters.t_bits - 1)
    assert body.noise_bound <= body.q / 2 ** (body.parameters.t_bits + 1) - 1


def test_a_unet_is_not_for_this_backend() -> None:
    with pytest.raises(CompileError, match="not a UNet"):
        compile_model(Tiny().eval(), options=CompileOptions(backend="sampler_step"), example_inputs=tiny_inputs())


def test_filling_encrypts_the_dearest_of_what_would_be_clear() -> None:
    distortion = np.random.default_rng(6).random((2, 8, 8))
    mask = select(distortion, 0.3)
    more = filled(mask, distortion, 50)
    assert more.sum() % 50 == 0 or more.all()
    assert (more >= mask).all()
    assert distortion[more & ~mask].min(initial=2) >= distortion[~more].max(initial=0)


def test_dynamic_masks_keep_the_budget_of_the_run() -> None:
    support, rng = DynamicSupport(magnitude, 0.1, 40, None), np.random.default_rng(7)
    seen = np.zeros((2, 1, 10, 10), np.bool_)
    for t in range(900, 0, -100):
        seen |= ~support.choose(rng.standard_normal(seen.shape), t)
        assert (seen.sum(axis=(1, 2, 3)) <= 40).all()
    assert (seen.sum(axis=(1, 2, 3)) == 40).all()
    support.start_run()
    fresh = support.choose(rng.standard_normal(seen.shape), 900)
    assert (~fresh & ~seen).any()
    assert support.choose(np.zeros(seen.shape), 800).all()  # a flat sample is never revealed whole


def test_the_largest_request_is_known() -> None:
    parameters, q, drops = choose_parameters(ENTRIES)
    body = SamplerStepBody(SHAPE, 2, parameters, q, drops, 12, 12, (), ENTRIES - 1, 0.1, "hill", False)
    for limited in (body, replace(body, most_clear=300)):
        largest = max(limited.sizes(2, clear).up for clear in limited.counts(2))
        assert largest == max(limited.sizes(2, clear).up for clear in range(2 * limited.most_clear + 1))


def test_words_of_a_request_are_whole_bytes(half: ClientHalf) -> None:
    """They pack without shuffling bits."""
    body = sampler_step_program(half).body
    bits = (body.parameters.q_bits, body.parameters.q_bits - body.drops.a, body.parameters.q_bits - body.drops.b)
    assert all(width % 8 == 0 for width in bits)
    assert unpack_bits(memoryview(bytes(6)), 1, 48).tolist() == [0]
