"""Cheetah's packing on SEAL, through seal-python. Weights are prepared in NTT form, sums are made there, and a reply holds its
first polynomial only where results are. The binding has no seeded form of a fresh ciphertext: both polynomials go up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import seal
from coefficients import cheapest
from task import measure, read, write

N, Q_BITS, SECURITY = 2048, 50, 137.1  # a row of docs/security-parameters.md

task = read()
layout, t = cheapest(task.shape, N), 1 << (2 * task.bound + 1).bit_length()
parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
parameters.set_poly_modulus_degree(N)
parameters.set_coeff_modulus(seal.CoeffModulus.Create(N, [Q_BITS]))
parameters.set_plain_modulus(t)
context = seal.SEALContext(parameters)
secret = seal.KeyGenerator(context).secret_key()
encryptor, decryptor, evaluator = seal.Encryptor(context, secret), seal.Decryptor(context, secret), seal.Evaluator(context)
HEADER = seal.Plaintext(N).to_bytes()[: -8 * N]
REPLY_HEADER = encryptor.encrypt_symmetric(seal.Plaintext("1")).to_string()[: -16 * N]  # the same for every ciphertext like it
PLACES = layout.places().ravel()


def plaintext(coefficients: npt.NDArray[Any]) -> seal.Plaintext:
    """A polynomial, from SEAL's own format."""
    made = seal.Plaintext()
    made.load_bytes(context, HEADER + (coefficients % t).astype(np.uint64).tobytes())
    return made


def ciphertext(data: bytes) -> seal.Ciphertext:
    made = seal.Ciphertext()
    made.load_bytes(context, data)
    return made


weights = [
    [evaluator.transform_to_ntt(plaintext(polynomial), context.first_parms_id()) for polynomial in reply]
    for reply in layout.weights(task.weights, N)
]


def encrypt() -> list[list[bytes]]:
    uploads = layout.uploads(task.values, N)
    return [[encryptor.encrypt_symmetric(plaintext(one)).to_string() for one in tile] for tile in uploads]


def evaluate(request: list[list[bytes]]) -> list[bytes]:
    replies = []
    for tile in request:
        uploads = [evaluator.transform_to_ntt(ciphertext(data)) for data in tile]
        for row in weights:
            total = evaluator.multiply_plain(uploads[0], row[0])
            for upload, weight in zip(uploads[1:], row[1:], strict=True):
                evaluator.add_inplace(total, evaluator.multiply_plain(upload, weight))
            evaluator.transform_from_ntt_inplace(total)
            words = np.frombuffer(total.to_string()[-16 * N :], np.uint64)
            replies.append(words[PLACES].tobytes() + words[N:].tobytes())
    return replies


def decrypt(replies: list[bytes]) -> npt.NDArray[Any]:
    read_, words = np.empty((len(replies), len(PLACES)), np.int64), np.zeros(2 * N, np.uint64)
    for reply, into in zip(replies, read_, strict=True):
        received = np.frombuffer(reply, np.uint64)
        words[PLACES], words[N:] = received[: len(PLACES)], received[len(PLACES) :]
        plain = decryptor.decrypt(ciphertext(REPLY_HEADER + words.tobytes()))
        coefficients = np.zeros(N, np.int64)
        data = np.frombuffer(plain.to_bytes()[len(HEADER) :], np.int64)
        coefficients[: len(data)] = data
        into[:] = coefficients[PLACES]
    signed = np.where(read_ >= t // 2, read_ - t, read_)
    return layout.results(signed.reshape(layout.counts[0], layout.counts[2], -1))


row = measure(task, encrypt, evaluate, decrypt)
tiles, uploads, replies = layout.counts
write(
    row
    | {
        "key_bytes": 0,
        "security_bits": SECURITY,
        "security_source": "lattice estimator, docs/security-parameters.md",
        "settings": f"N {N}, q {Q_BITS} bits, t 2^{t.bit_length() - 1}, {tiles} tiles of {layout.tile[0]}x{layout.tile[1]}, "
        f"{tiles * uploads} uploads, {tiles * replies} replies",
        "rounds": 1,
        "remark": "int8 weights in NTT form ahead, all in memory; no seeded ciphertexts in the binding",
    }
)
