"""Sampling without torch or diffusers: DDIM in NumPy over the runtime's executor. Needs the extra `arrays` only."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.transports import open_transport

Array = npt.NDArray[np.float32]


def signal_levels() -> npt.NDArray[np.float64]:
    """abar_t of the schedule that the digits were trained with: (1000,)."""
    times = np.arange(1001) / 1000
    bar = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - bar[1:] / bar[:-1], 0.999))


def draw(artifact: Path, server: str | None, label: int, steps: int, seed: int = 0, policy: str = "strict") -> Array:
    """One digit, (1, 1, 8, 8) in [-1, 1], by the server at this URL or in this process."""
    bundle = load_bundle(artifact, policy)
    transport = open_transport(bundle, server)
    executor = Executor(bundle, transport)
    abar, times = signal_levels(), np.linspace(900, 20, steps + 1).astype(int)
    sample = np.random.default_rng(seed).standard_normal((1, 1, 8, 8), np.float32)
    for now, then in pairwise(times):
        inputs = {"sample": sample, "timestep": np.array(now, np.float32), "class_labels": np.array([label])}
        noise = executor.run({spec.name: inputs[str(spec.keyword[0])] for spec in bundle.manifest.inputs}, batch=1)[0]
        clean = np.clip((sample - np.sqrt(1 - abar[now]) * noise) / np.sqrt(abar[now]), -1, 1)
        sample = (np.sqrt(abar[then]) * clean + np.sqrt(1 - abar[then]) * noise).astype(np.float32)
    executor.close()
    transport.close()
    return clean.astype(np.float32)


if __name__ == "__main__":  # ARTIFACT [URL]
    print((draw(Path(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None, label=3, steps=10)[0, 0] > 0).astype(int))
