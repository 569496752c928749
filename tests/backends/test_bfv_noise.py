"""The proofs, measured: answers of the core's own halves decrypt exactly, and the noise in them lies under the bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hecompile import _core
from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.program import region_program
from hecompile.backends.bfv.rings import prime
from hecompile.backends.bfv.weights import weights_of
from hecompile.backends.words import unpack_bits
from hecompile.ir import linear as forms
from hecompile.ir.linear import Array, Geometry, correlate
from hecompile.machine import Machine
from tests.native.core_hooks import secrets_of
from tests.native.reference import Ring, multiply


def int8(weights: Array) -> Array:
    peaks = np.abs(weights).max(axis=(1, 2), keepdims=True)
    return np.rint(weights / peaks * 127).astype(np.int8)


def in_core(layout: Layout, ring: Ring, drops: tuple[int, int]) -> _core.Layout:
    geometry, packing = layout.geometry, layout.packing
    return _core.make_layout(
        ring.n, ring.q, ring.t_bits, packing.elements, geometry.picture, (geometry.rows, *geometry.grid),
        np.array(geometry.taps, np.int32), (packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out), drops,
    )  # fmt: skip


def measured_noise(ring: Ring, layout: Layout, weights: Array, limit: int, drops: tuple[int, int]) -> tuple[int, Array, Array]:
    """Largest |b + a s - m (q - 1) / t| over the read coefficients, with what is decrypted and what it should be."""
    rng = np.random.default_rng(5)
    geometry = layout.geometry
    picture = rng.choice([-limit, limit], (layout.packing.elements, *geometry.picture))  # the worst inputs
    layer = in_core(layout, ring, drops)
    messages = np.ascontiguousarray(layout.pack(picture))
    out = bytearray(layer.up_bytes + layer.seeds * _core.SEED_BYTES)
    request = _core.encrypt([layer], [messages], [b"noise"], out, [0])
    reply = bytearray(layer.down_b_bytes + layer.down_a_bytes)
    words, seeds = memoryview(out)[: layer.up_bytes], memoryview(out)[layer.up_bytes :]
    for transform in (False, True):  # the same bits
        other_reply = bytearray(len(reply))
        made = _core.make_weights(layer, np.ascontiguousarray(weights), transform, 0)
        assert _core.evaluate(layer, made, words, seeds, b"noise", None, other_reply, 0) is None
        assert not transform or other_reply == reply
        reply = other_reply
    q_bits = ring.q.bit_length()
    b = unpack_bits(
        memoryview(reply)[: layer.down_b_bytes], layer.blocks * layer.answers * len(layer.gather_indices), q_bits - drops[0]
    )
    a = unpack_bits(memoryview(reply)[layer.down_b_bytes :], layer.seeds * layer.answers * ring.n, q_bits - drops[1])
    b = (b << np.uint64(drops[0])).reshape(layer.blocks, layer.answers, -1) % np.uint64(ring.q)
    a = (a << np.uint64(drops[1])).reshape(layer.seeds, layer.answers, -1) % np.uint64(ring.q)
    decrypted = np.empty(b.shape, np.int64)
    secrets = secrets_of(request)
    _core.decrypt(request, reply, [0], [decrypted])
    worst = 0
    for block in range(layer.blocks):
        for answer in range(layer.answers):
            product = np.array(multiply(ring, a[block // 64, answer].tolist(), secrets[block]), object)[layer.gather_indices]
            message = decrypted[block, answer].astype(object) * ((ring.q - 1) // ring.t)
            noise = (b[block, answer].astype(object) + product - message + ring.q // 2) % ring.q - ring.q // 2
            worst = max(worst, int(np.abs(noise).max()))
    expected = correlate(picture.astype(float), weights.astype(float), geometry.taps, geometry.grid)
    return worst, layout.gather(decrypted), expected


def check(choice: Choice, weights: Array) -> None:
    parameters = choice.parameters
    ring = Ring(parameters.dimension, prime(parameters.q_bits, parameters.t_bits), parameters.t_bits)
    noise, read, expected = measured_noise(ring, choice.layout, weights, parameters.limit, (choice.drop_b, choice.drop_a))
    np.testing.assert_array_equal(read, expected)
    assert 0 < noise <= 2**choice.noise_bits
    assert 2**choice.noise_bits <= ring.q / (2 * ring.t)


CASES: dict[str, tuple[Geometry, Array]] = {
    "conv 16 to 16": forms.conv2d(np.random.default_rng(0).normal(size=(16, 16, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1),
    "linear 64 to 32": forms.linear(np.random.default_rng(1).normal(size=(32, 64)), 1),
}


@pytest.mark.promise("exact")
@pytest.mark.parametrize("case", CASES)
def test_noise_lies_under_the_bound(case: str) -> None:
    geometry, weights = CASES[case]
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    check(choice, int8(weights))


@pytest.mark.slow
@pytest.mark.fhe
def test_noise_lies_under_the_bound_for_320_channels() -> None:
    geometry, weights = forms.conv2d(np.random.default_rng(2).normal(size=(320, 320, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1)
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    check(choice, int8(weights))


@pytest.mark.promise("exact")
@pytest.mark.slow
@pytest.mark.fhe
@pytest.mark.parametrize("channels", [1280, 2560])
def test_noise_lies_under_the_bound_for_long_sums(channels: int) -> None:
    """Of 11,520 and of 23,040 terms, the longest of Stable Diffusion."""
    geometry, weights = forms.conv2d(np.random.default_rng(3).normal(size=(8, channels, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1)
    assert weights.shape[1] * weights.shape[2] == 9 * channels
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    check(choice, int8(weights))


@pytest.mark.promise("exact")
@pytest.mark.slow
@pytest.mark.fhe
def test_noise_lies_under_the_bound_on_every_layer_of_digits(digits: Path) -> None:
    manifest, folder = read_manifest(digits), digits / "server"
    files = read_server(digits)[0].files
    count = 0
    for step in manifest.plan.steps:
        if step.kind != "call":
            continue
        half = read_server_half(folder, files, step.region)
        program = region_program(half)
        for layer, weights in zip(program.body.layers, weights_of(half, program), strict=True):
            row, parameters = layer.packings[0], layer.parameters
            ring = Ring(parameters.dimension, layer.q, parameters.t_bits)
            noise, read, expected = measured_noise(
                ring, layer.layout(1), weights.encrypted, parameters.limit, (row.drop_b, row.drop_a)
            )
            np.testing.assert_array_equal(read, expected)
            assert 0 < noise <= 2 ** (row.noise_bits + 0.001)  # the program keeps three digits
            count += 1
    assert count >= 20


def test_the_probabilistic_bound_is_used_where_the_worst_case_fits_nowhere() -> None:
    geometry, weights = forms.linear(np.random.default_rng(4).normal(size=(8, 4000)), 1)
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    assert choice.proof == "probabilistic"
    row_norm = int(np.abs(int8(weights).astype(int)).sum(axis=(1, 2)).max())
    assert 21 * row_norm > 2.0 ** (48 - 1 - choice.parameters.t_bits)
