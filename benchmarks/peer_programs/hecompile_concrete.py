"""hecompile's linear circuits under `concrete`, with both halves in this process: Concrete's ciphertexts, without bootstraps."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
from task import measure, read, write

from hecompile.backends.region_client import Pending
from hecompile.ir.regions import Program

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, "")  # benchmarks.concrete takes its folder from the path

import numpy as np
import torch

from benchmarks.concrete import Conv, inline
from hecompile.backends.concrete.linear.backend import ConcreteBackend
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions

task = read()
channels, outputs, side = task.shape
value = task.values[None].astype(np.float32) / np.abs(task.values).max()
net = Conv(channels).eval()
net.conv.weight.data = torch.from_numpy(task.weights).float()
with tempfile.TemporaryDirectory() as folder:
    example = {"sample": torch.from_numpy(np.concatenate([value, -value]))}
    compiled = compile_model(net, Path(folder), options=CompileOptions(backend="concrete", max_batch=1), example_inputs=example)
assert isinstance(compiled.program, Program)
(lowered,) = [region.lowered for region in compiled.program.calls.values() if region.lowered]
backend = ConcreteBackend()
client, server = backend.load_client(lowered.client), backend.load_server(lowered.server)
simulated = backend.simulation(lowered.client, lowered.server)
want = simulated.decrypt(b"", simulated.encrypt([value], 1)[1])
pending: Pending | None = None


def encrypt() -> bytes:
    global pending
    parts, pending = client.encrypt([value], 1)
    return b"".join(parts)


def decrypt(reply: bytes) -> list[npt.NDArray[Any]]:
    assert pending is not None
    return client.decrypt(reply, pending)


def wrong(values: list[npt.NDArray[Any]]) -> float:
    return max(float(np.abs(got - right).max()) for got, right in zip(values, want, strict=True))


with inline():
    row = measure(task, encrypt, lambda request: server.evaluate(request, 1), decrypt, wrong=wrong)
description = backend.describe(lowered.client)
write(
    row
    | {
        "key_bytes": 0,
        "security_bits": 128,
        "security_source": "Concrete's curve, docs/security-parameters.md",
        "settings": f"LWE {description.parameters}, {description.proof}",
        "rounds": 1,
        "remark": "its own quantisation, exact against its simulation; float32 to float32",
    }
)
