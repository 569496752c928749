"""hecompile's own halves of a layer under `bfv`, from float32 values to float32 values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy.typing as npt
from task import measure, read, write

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, "")  # benchmarks.linear takes its folder from the path

import numpy as np

from benchmarks.linear import Shape, encrypted, expected, layer
from hecompile import _core
from hecompile.backends.bfv.rings import secrets_of
from hecompile.security.table import security_bits

_core.set_threads(1)
task = read()
channels, outputs, side = task.shape
made = layer(Shape("conv", channels, (outputs,), (side, side), 3))
halves, value = encrypted(made.linear_op()), made.value[:1].numpy()
want, choice = expected(halves.packed, value), halves.packed.choices[0]
client, server = halves.client, halves.server
pending = None


def encrypt() -> bytes:
    global pending
    parts, pending = client.encrypt([value], 1)
    return b"".join(parts)


def wrong(values: list[npt.NDArray[Any]]) -> float:
    return max(float(np.abs(got - right).max()) for got, right in zip(values, want, strict=True))


row = measure(task, encrypt, lambda request: server.evaluate(request, 1), lambda reply: client.decrypt(reply, pending), wrong=wrong)
parameters, layout = choice.parameters, choice.layout
write(
    row
    | {
        "key_bytes": 0,
        "security_bits": round(security_bits(parameters.dimension, parameters.q_bits, secrets_of(layout.blocks, 1)), 1),
        "security_source": "lattice estimator, docs/security-parameters.md",
        "settings": f"N {parameters.dimension}, q {parameters.q_bits} bits, t 2^{parameters.t_bits}, {layout.blocks} blocks of "
        f"{layout.uploads} uploads and {layout.answers} answers, form {server.form(0, 1)}",
        "rounds": 1,
        "remark": "with quantisation and scales, float32 to float32; its weights are prepared ahead up to 4 MiB a layer",
    }
)
