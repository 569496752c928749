"""A convolution by rotations on OpenFHE's BFV, as Gazelle does it: the input is rotated to each tap (hoisted), multiplied by
weights along the diagonals of channels, added up, and each diagonal's sum is rotated to its outputs.

A row of slots holds `blocks` pictures and both rows work at once on different input channels, or on copies of few channels; the
client adds what rows and copies bring for one output. The modulus is of two primes, with BV key switching: less than its default's,
which would want a larger ring.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import openfhe as fhe
from task import measure, read, write

PART = 4  # outputs that are measured where a picture fills a row

whole = read()
channels, outputs, side = whole.shape
area, taps = side * side, list(product((-1, 0, 1), repeat=2))
N = max(4096, 2 * area)
row = N // 2
blocks = row // area
task = whole.part(PART) if blocks == 1 else whole
times = outputs // len(task.sums)
lanes = max(1, 2 * blocks // channels)  # copies of the input in a ciphertext
diagonals = channels // lanes if lanes > 1 else blocks
outs = min(channels, blocks)  # of a reply


def prime(least: int) -> int:
    """The next prime that is 1 modulo 2N."""
    candidate = least // (2 * N) * 2 * N + 1
    while candidate <= least or not all(candidate % divisor for divisor in range(2, int(candidate**0.5) + 1)):
        candidate += 2 * N
    return candidate


t = prime(2 * task.bound)
parameters = fhe.CCParamsBFVRNS()
parameters.SetPlaintextModulus(t)
parameters.SetMultiplicativeDepth(1)
parameters.SetSecurityLevel(fhe.HEStd_128_classic)
parameters.SetRingDim(N)
parameters.SetKeySwitchTechnique(fhe.BV)
parameters.SetScalingModSize(53 if N == 4096 else 60)
parameters.SetDigitSize(27 if t < 1 << 26 else 18 if N == 4096 else 20)
context = fhe.GenCryptoContext(parameters)
for feature in (fhe.PKE, fhe.KEYSWITCH, fhe.LEVELEDSHE):
    context.Enable(feature)
secret = context.KeyGen().secretKey
shifts = [dy * side + dx for dy, dx in taps]
context.EvalRotateKeyGen(secret, [shift for shift in shifts if shift] + [d * area for d in range(1, diagonals)])


def channel(upload: int, row_: int, block: int) -> int:
    """Which input channel lies there."""
    if lanes == 1:
        return (upload * 2 + row_) * blocks + block
    lane, place = row_ * (blocks // channels) + block // channels, block % channels
    return (place + diagonals * lane) % channels


def valid(dy: int, dx: int) -> npt.NDArray[Any]:
    """Where the tap reads within the picture (area)."""
    y, x = np.mgrid[:side, :side]
    return ((y + dy >= 0) & (y + dy < side) & (x + dx >= 0) & (x + dx < side)).ravel()


uploads, replies = max(1, channels // (2 * blocks)), len(task.sums) // outs
places = [[(row_, block, channel(upload, row_, block)) for row_ in (0, 1) for block in range(blocks)] for upload in range(uploads)]
masks = [valid(dy, dx) for dy, dx in taps]


def weight(reply: int, upload: int, diagonal: int, tap: int) -> fhe.Plaintext:
    """Weights in slots: a block is multiplied for the output that the diagonal's rotation brings it to."""
    slots = np.zeros((2, blocks, area), np.int64)
    for row_, block, source in places[upload]:
        output = reply * outs + (block - diagonal) % blocks % outs
        slots[row_, block] = task.weights[output, source].ravel()[tap] * masks[tap]
    made = context.MakePackedPlaintext(slots.ravel())
    made.SetFormat(fhe.EVALUATION)  # or every product transforms it
    return made


weights = [
    [[weight(reply, upload, diagonal, tap) for upload in range(uploads) for tap in range(9)] for diagonal in range(diagonals)]
    for reply in range(replies)
]


some = context.Encrypt(secret, context.MakePackedPlaintext(np.zeros(N, np.int64)))
zero = context.EvalSub(some, some)


def ciphertext(data: bytes) -> fhe.Ciphertext:
    """A received ciphertext plus a local encryption of zero: its products take a third of the time of the received one's."""
    return context.EvalAdd(zero, fhe.DeserializeCiphertextString(data, fhe.BINARY))


def encrypt() -> list[bytes]:
    pictures = task.values.reshape(channels, area)
    slots = [pictures[[source for _, _, source in place]].ravel() for place in places]
    return [fhe.Serialize(context.Encrypt(secret, context.MakePackedPlaintext(vector)), fhe.BINARY) for vector in slots]


def receive(request: list[bytes]) -> list[fhe.Ciphertext]:
    """Every upload at every tap."""
    rotated = []
    for data in request:
        upload = ciphertext(data)
        digits = context.EvalFastRotationPrecompute(upload)
        rotated += [context.EvalFastRotation(upload, shift, digits) if shift else upload for shift in shifts]
    return rotated


def evaluate(rotated: list[fhe.Ciphertext]) -> list[bytes]:
    replies_ = []
    for rows in weights:
        total = None
        for diagonal, row_ in enumerate(rows):
            part = context.EvalMult(rotated[0], row_[0])
            for value, factor in zip(rotated[1:], row_[1:], strict=True):
                context.EvalAddInPlace(part, context.EvalMult(value, factor))
            part = context.EvalRotate(part, diagonal * area) if diagonal else part
            total = context.EvalAdd(total, part) if total else part
        replies_.append(fhe.Serialize(total, fhe.BINARY))
    return replies_


def decrypt(replies_: list[bytes]) -> npt.NDArray[Any]:
    partial_sums = []
    for data in replies_:
        plain = context.Decrypt(ciphertext(data), secret)
        plain.SetLength(N)
        partial_sums.append(np.asarray(plain.GetPackedValueArray()).reshape(-1, outs, area).sum(axis=0))
    sums = (np.concatenate(partial_sums).reshape(task.sums.shape) + t // 2) % t - t // 2
    return sums


figures = measure(task, encrypt, evaluate, decrypt, receive, times)
write(
    figures
    | {
        "key_bytes": len(fhe.SerializeEvalAutomorphismKeyString(fhe.BINARY)),
        "security_bits": 128,
        "security_source": "OpenFHE's HEStd_128_classic",
        "settings": f"BFV, N {N}, q {round(np.log2(float(context.GetModulus())))} bits, t {t}, BV digits of "
        f"{parameters.GetDigitSize()} bits, {uploads} uploads, {replies * times} replies, {diagonals} diagonals",
        "rounds": 1,
        "remark": "secret-key encryption; hoisted rotations; weights encoded ahead",
        "extrapolated": f"measured on {PART} of {outputs} outputs, times {times}" if times > 1 else None,
    }
)
