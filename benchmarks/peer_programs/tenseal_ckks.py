"""TenSEAL's own convolution on CKKS: one channel a call, so a ciphertext of windows per input channel, and sums over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal
from task import measure, read, write

N, BITS, SCALE_BITS = 8192, (60, 40, 60), 40

task = read()
channels, outputs, side = task.shape
context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, N, coeff_mod_bit_sizes=list(BITS), n_threads=1)
context.global_scale = 2.0**SCALE_BITS
context.generate_galois_keys()
kernels = task.weights.astype(float).tolist()
server = tenseal.context_from(context.serialize(save_galois_keys=True))  # without the secret key


def encrypt() -> list[bytes]:
    padded = np.pad(task.values, ((0, 0), (1, 1), (1, 1))).astype(float)
    return [tenseal.im2col_encoding(context, channel.tolist(), 3, 3, 1)[0].serialize() for channel in padded]


def evaluate(request: list[bytes]) -> list[bytes]:
    windows, replies = [tenseal.ckks_vector_from(server, data) for data in request], []
    for kernel in kernels:
        total = windows[0].conv2d_im2col(kernel[0], side * side)
        for window, taps in zip(windows[1:], kernel[1:], strict=True):
            total += window.conv2d_im2col(taps, side * side)
        replies.append(total.serialize())
    return replies


def decrypt(replies: list[bytes]) -> npt.NDArray[Any]:
    decrypted = [tenseal.ckks_vector_from(context, data).decrypt() for data in replies]
    return np.array(decrypted).reshape(task.sums.shape)


row = measure(task, encrypt, evaluate, decrypt)
write(
    row
    | {
        "key_bytes": len(context.serialize(save_galois_keys=True)),
        "security_bits": 128,
        "security_source": "SEAL's table for 128 bits",
        "settings": f"CKKS, N {N}, q of {BITS} bits, scale 2^{SCALE_BITS}, {channels} uploads, {outputs} replies",
        "rounds": 1,
        "remark": "approximate; conv2d_im2col takes one channel a call",
    }
)
