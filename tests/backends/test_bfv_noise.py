"""The proofs against SEAL: its own decryptor reads the evaluator's answers, and the measured noise lies under the bound."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.bfv import seal as words_of
from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.evaluator import evaluate
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.program import region_program
from hecompile.backends.bfv.rings import prime
from hecompile.backends.bfv.seal import Ring, expand_seeds
from hecompile.backends.bfv.secret import SecretKey
from hecompile.backends.bfv.weights import weights_of
from hecompile.backends.seal_files import header
from hecompile.backends.words import round_off
from hecompile.ir import linear as forms
from hecompile.ir.linear import Array, Geometry, correlate
from hecompile.machine import Machine


def int8(weights: Array) -> np.ndarray:
    peaks = np.abs(weights).max(axis=(1, 2), keepdims=True)
    return np.rint(weights / peaks * 127).astype(np.int8)


def secret_coefficients(key: SecretKey, ring: Ring) -> np.ndarray:
    """The ternary secret, from SEAL: an encryption of zero is (e - a s, a), and decrypting (0, X^0 Q/2t ...) would be indirect.
    SEAL's own decryption of the words (b=0, a=delta) gives delta s, from which s follows."""
    delta = ring.q // ring.t
    a = np.zeros((1, ring.dimension), np.uint64)
    a[0, 0] = delta
    return key.decrypt(np.zeros_like(a), a)[0]


def negacyclic(a: np.ndarray, s: np.ndarray, q: int) -> np.ndarray:
    """a s mod (X^N + 1, q), exactly."""
    result = np.zeros(len(a), object)
    exact = a.astype(object)
    for place in np.nonzero(s)[0]:
        rolled = np.concatenate([-exact[len(a) - place :], exact[: len(a) - place]])
        result = result + int(s[place]) * rolled
    return result % q


def answers_of(uploads: np.ndarray, weights: np.ndarray, layout: Layout, ring: Ring) -> tuple[np.ndarray, np.ndarray]:
    """Whole ciphertexts, zero where `b` is not read: (answers, N) each."""
    read, a = evaluate(uploads, weights, layout, ring)
    b = np.zeros_like(a)
    b[..., layout.reads] = read
    return b.reshape(-1, ring.dimension), a.reshape(-1, ring.dimension)


def measured_noise(ring: Ring, layout: Layout, weights: np.ndarray, limit: int, drops: tuple[int, int]) -> tuple[int, Array, Array]:
    """Largest |b + a s - round(q m / t)| over the read coefficients, with what SEAL decrypts and what it should."""
    rng = np.random.default_rng(5)
    geometry = layout.geometry
    picture = rng.choice([-limit, limit], (layout.packing.elements, *geometry.picture))  # the worst inputs
    key = SecretKey(ring)
    b, seeds = key.encrypt(layout.place(picture).reshape(-1, ring.dimension))
    uploads = np.stack([b, expand_seeds(ring, seeds)]).reshape(2, layout.blocks, layout.uploads, ring.dimension)
    b, a = (
        (round_off(part, drop, ring.q_bits) << np.uint64(drop)) % np.uint64(ring.q)
        for part, drop in zip(answers_of(uploads, weights, layout, ring), drops, strict=True)
    )
    decrypted = key.decrypt(b, a)[:, layout.reads]
    expected = correlate(picture.astype(float), weights.astype(float), geometry.taps, geometry.grid)
    s = secret_coefficients(key, ring)
    worst = 0
    for row in range(len(b)):
        phase = (b[row].astype(object) + negacyclic(a[row], s, ring.q)) % ring.q
        message = key.decrypt(b[row : row + 1], a[row : row + 1])[0].astype(object)
        scaled = (2 * ring.q * message + ring.t) // (2 * ring.t)
        noise = (phase - scaled + ring.q // 2) % ring.q - ring.q // 2
        worst = max(worst, int(np.abs(noise[layout.reads]).max()))
    read = layout.read(decrypted.reshape(layout.blocks, layout.answers, -1))
    return worst, read, expected


def check(choice: Choice, weights: np.ndarray) -> None:
    parameters = choice.parameters
    ring = Ring(parameters.dimension, prime(parameters.q_bits, parameters.t_bits), 1 << parameters.t_bits)
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
def test_noise_lies_under_the_bound_for_sums_of_11520_terms() -> None:
    geometry, weights = forms.conv2d(np.random.default_rng(3).normal(size=(16, 1280, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1)
    assert weights.shape[1] * weights.shape[2] == 11520
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
            ring = Ring(parameters.dimension, prime(parameters.q_bits, parameters.t_bits), 1 << parameters.t_bits)
            noise, read, expected = measured_noise(
                ring, layer.layout(1), weights.encrypted, parameters.limit, (row.drop_b, row.drop_a)
            )
            np.testing.assert_array_equal(read, expected)
            assert 0 < noise <= 2 ** (row.noise_bits + 0.001)  # the program keeps three digits
            count += 1
    assert count >= 20


def test_seal_itself_decrypts_the_answers(tmp_path: Path) -> None:
    """SEAL's ordinary API from key to plaintext: only the sum in between is ours."""
    geometry, weights = CASES["conv 16 to 16"]
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    parameters, layout = choice.parameters, choice.layout
    ring = Ring(parameters.dimension, prime(parameters.q_bits, parameters.t_bits), 1 << parameters.t_bits)
    scheme = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    scheme.set_poly_modulus_degree(ring.dimension)
    scheme.set_coeff_modulus([seal.Modulus(ring.q)])
    scheme.set_plain_modulus(ring.t)
    context = seal.SEALContext(scheme, True, seal.SEC_LEVEL_TYPE.TC128)
    key = seal.KeyGenerator(context).secret_key()
    encryptor, decryptor = seal.Encryptor(context, key), seal.Decryptor(context, key)
    picture = np.random.default_rng(0).integers(-parameters.limit, parameters.limit + 1, (1, *geometry.picture))
    uploads = []
    for polynomial in layout.place(picture)[0]:
        plain = seal.Plaintext(" + ".join(f"{int(c) % ring.t:x}x^{i}" for i, c in reversed(list(enumerate(polynomial))) if c))
        cipher = seal.Ciphertext(context)
        encryptor.encrypt_symmetric(plain, cipher)
        cipher.save(str(tmp_path / "cipher"))
        uploads.append(words_in(tmp_path / "cipher", ring))
    answers = answers_of(np.stack(uploads, axis=1)[:, None], int8(weights), layout, ring)
    values = []
    for b, a in zip(*answers, strict=True):
        (tmp_path / "answer").write_bytes(as_file(b, a, ring))
        cipher, plain = seal.Ciphertext(context), seal.Plaintext()
        cipher.load(context, str(tmp_path / "answer"))
        decryptor.decrypt(cipher, plain)
        coefficients = np.array([int(plain[i]) if i < plain.coeff_count() else 0 for i in range(ring.dimension)], np.int64)
        values.append(np.where(coefficients >= ring.t // 2, coefficients - ring.t, coefficients)[layout.reads])
    read = layout.read(np.stack(values)[None])
    np.testing.assert_array_equal(read, correlate(picture.astype(float), int8(weights).astype(float), geometry.taps, geometry.grid))


def words_in(path: Path, ring: Ring) -> np.ndarray:
    """(2, N) words of a ciphertext that SEAL saved."""
    import zstandard

    blob = path.read_bytes()
    members = zstandard.ZstdDecompressor().decompressobj().decompress(blob[16:]) if blob[5] == 2 else blob[16:]
    start = 73 + 16 + 8
    return np.frombuffer(members, np.uint64, 2 * ring.dimension, start).reshape(2, -1)


def as_file(b: np.ndarray, a: np.ndarray, ring: Ring) -> bytes:
    """Words as an uncompressed file of SEAL."""
    members = words_of.empty_members(ring)
    data = b.tobytes() + a.tobytes()
    array = header(8 + len(data)) + struct.pack("<Q", 2 * ring.dimension) + data
    return header(len(members) + len(array)) + members + array


def test_the_probabilistic_bound_is_used_where_the_worst_case_fits_nowhere() -> None:
    geometry, weights = forms.linear(np.random.default_rng(4).normal(size=(8, 4000)), 1)
    choice = choose(Weights(geometry, int8(weights)), 1, Machine())
    assert choice is not None
    assert choice.proof == "probabilistic"
    row_norm = int(np.abs(int8(weights).astype(int)).sum(axis=(1, 2)).max())
    assert 21 * row_norm > 2.0 ** (48 - 1 - choice.parameters.t_bits)
