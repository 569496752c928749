"""The two builds of SEAL: what TenSEAL's makes is to seal-python's, word for word, what it is to itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import seal
import tenseal.sealapi as maker

from hecompile.backends.ckks.choose import ring_for
from hecompile.backends.ckks.keys import load_key, relin_name, rotation_name
from hecompile.backends.ckks.program import SlotOp, SlotProgram
from hecompile.backends.ckks.ring import CkksRing, primes
from hecompile.backends.ckks.seal import context_of, encoder_of, evaluator_of, load_answer, load_fresh, parms_id, save_answer
from hecompile.backends.ckks.seal import seal_words as words_of
from hecompile.backends.ckks.secret import SecretKey, _maker_context
from hecompile.backends.seal_files import ARRAY_BYTES, FILE, MEMBERS_BYTES, header, members
from hecompile.ir.linear import Array

RINGS = [ring_for(depth, 1, "a test") for depth in (2, 5)]


@pytest.fixture(scope="module", params=RINGS, ids=lambda ring: ring.name)
def ring(request: pytest.FixtureRequest) -> CkksRing:
    parameters: CkksRing = request.param
    return parameters


@pytest.fixture(scope="module")
def key(ring: CkksRing) -> SecretKey:
    return SecretKey(ring)


@pytest.fixture(scope="module")
def vector(ring: CkksRing) -> Array:
    return np.random.default_rng(0).standard_normal(ring.slots)


def expanded(ring: CkksRing, kind: Any, blob: bytes) -> bytes:
    """What TenSEAL's SEAL makes of a file: loaded, which expands seeds, and saved."""
    loaded = kind()
    loaded.load(_maker_context(ring), FILE.write(blob))
    loaded.save(FILE.path)
    return FILE.read()


def without_versions(blob: bytes) -> bytes:
    """A file of SEAL's without the minor version in its headers."""
    return blob.replace(b"\x5e\xa1\x10\x04\x03", b"\x5e\xa1\x10\x04\x04")


def test_primes_and_names_of_levels_are_the_same(ring: CkksRing) -> None:
    theirs = maker.CoeffModulus.Create(ring.dimension, [*ring.bits, ring.special_bits])
    assert tuple(prime.value() for prime in theirs) == primes(ring)
    data = _maker_context(ring).first_context_data()
    for level in range(ring.depth, -1, -1):
        assert data.parms_id() == parms_id(ring, level)
        data = data.next_context_data()


def test_seeds_of_fresh_ciphertexts_expand_to_the_same_words(ring: CkksRing, key: SecretKey, vector: Array) -> None:
    for level in (ring.depth, 0):
        plain = maker.Plaintext()
        maker.CKKSEncoder(_maker_context(ring)).encode(vector.tolist(), parms_id(ring, level), ring.scale, plain)
        key._encryptor.encrypt_symmetric(plain).save(FILE.path)
        fields = FILE.read()
        blob = header(len(fields)) + fields
        ours = context_of(ring).from_cipher_str(blob)
        theirs = np.frombuffer(expanded(ring, maker.Ciphertext, blob), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)
        assert len(theirs) == 2 * (level + 1) * ring.dimension
        np.testing.assert_array_equal(words_of(ours), theirs)


@pytest.mark.parametrize("kind", ["relin", "rotate"])
def test_seeds_of_keys_expand_to_the_same_words(ring: CkksRing, key: SecretKey, kind: str) -> None:
    """The whole files are the same but for SEAL's minor version."""
    program = SlotProgram(ring, (SlotOp("y", "rotate", ("x",), ring.depth, ring.scale, 1.0, "", {"steps": 3}),))
    name = relin_name(ring) if kind == "relin" else rotation_name(ring, 3)
    blob = key.relinearization_key() if kind == "relin" else key.galois_key(3)
    theirs = expanded(ring, maker.RelinKeys if kind == "relin" else maker.GaloisKeys, blob)
    ours = members(load_key(program, name, memoryview(blob)).key.to_string())
    assert len(ours) > 1.9 * len(blob)
    assert without_versions(ours) == without_versions(theirs)


def test_plaintexts_are_the_same_at_every_level(ring: CkksRing, vector: Array) -> None:
    """As TenSEAL's encoder encodes them, and as if encoded at the highest level and switched down."""
    highest = encoder_of(ring).encode(vector, ring.depth, ring.scale)
    for level in range(ring.depth + 1):
        plain = maker.Plaintext()
        maker.CKKSEncoder(_maker_context(ring)).encode(vector.tolist(), parms_id(ring, level), ring.scale, plain)
        plain.save(FILE.path)
        ours = encoder_of(ring).encode(vector, level, ring.scale).to_bytes(seal.compr_mode_type.none)
        switched = evaluator_of(ring).mod_switch_to(highest, parms_id(ring, level)).to_bytes(seal.compr_mode_type.none)
        assert ours == switched
        assert without_versions(members(ours)) == without_versions(FILE.read())


def test_answers_are_decrypted_by_a_key_that_the_other_build_made(ring: CkksRing, key: SecretKey, vector: Array) -> None:
    """Fresh, and at every level below: within the noise of an encryption and of the roundings on the way."""
    fresh = load_fresh(memoryview(key.encrypt(vector, ring.depth, ring.scale)), ring, ring.depth, ring.scale)
    for level in range(ring.depth + 1):
        switched = evaluator_of(ring).mod_switch_to(fresh, parms_id(ring, level))
        data = save_answer(switched, ring, level)
        error = key.decrypt(memoryview(data), level, ring.scale) - vector
        assert np.abs(error).max() < 7 * np.sqrt(ring.dimension * 11) / ring.scale
        with pytest.raises(AssertionError):
            np.testing.assert_array_equal(error, 0)
        np.testing.assert_array_equal(words_of(load_answer(memoryview(data), ring, level, ring.scale)), words_of(switched))
