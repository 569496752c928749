"""A convolution (16 -> 16 channels on 8x8) and an activation (SiLU, degree 7) under CKKS: ours and TenSEAL's own API.

One process, in memory, each pair in one ring. `overhead` is our wall time over the time that SEAL's primitive operations take in
such a run: what scheduling, bookkeeping and the interpreter cost. Plaintexts of weights are encoded before, on both sides' terms:
TenSEAL encodes them at every call.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import tenseal

from benchmarks.harness import arguments, finish, machine
from hecompile.backends.ckks.engine import ClearEngine
from hecompile.backends.ckks.keys import key_sizes, load_key, relin_name
from hecompile.backends.ckks.layout import Upload
from hecompile.backends.ckks.linear_maps import AffineMap, Polynomial, RegionMaps
from hecompile.backends.ckks.lower import Lowering, lower_maps
from hecompile.backends.ckks.ring import CkksRing
from hecompile.backends.ckks.seal import load_fresh, save_answer
from hecompile.backends.ckks.seal_engine import Plaintexts, SealEngine
from hecompile.backends.ckks.secret import SecretKey
from hecompile.backends.ckks.value import Value
from hecompile.ir.linear import Array, correlate

RUNS = 7


def timed(task: Callable[[], Any], runs: int = RUNS) -> float:
    """Median wall seconds, one run before."""
    task()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


class Stopwatch:
    """SEAL's evaluator or encoder, with the seconds spent inside its calls."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.spent_s = inner, 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._inner, name)

        def timed_call(*args: Any) -> Any:
            started = time.perf_counter()
            result = call(*args)
            self.spent_s += time.perf_counter() - started
            return result

        return timed_call


class Ours:
    """A slot program with keys, ready to run on one input."""

    def __init__(self, lowering: Lowering, values: dict[str, Array]) -> None:
        self._lowering, ring = lowering, lowering.program.ring
        self._key = SecretKey(ring)
        self._keys: dict[str, object] = {}
        for name in key_sizes(lowering.program):
            relin = name == relin_name(ring)
            data = self._key.relinearization_key() if relin else self._key.galois_key(int(name.split()[-1]))
            self._keys[name] = load_key(lowering.program, name, memoryview(data))
        self._plaintexts = Plaintexts(2 << 30)
        self.vectors = {upload.name: self._vector(upload, values) for upload in lowering.uploads}
        self._inputs = {upload.name: self._fresh(upload) for upload in lowering.uploads}

    def _fresh(self, upload: Upload) -> Any:
        data = self._key.encrypt(self.vectors[upload.name], upload.level, upload.scale)
        return load_fresh(memoryview(data), self._lowering.program.ring, upload.level, upload.scale)

    def _vector(self, upload: Upload, values: dict[str, Array]) -> Array:
        return np.tile(upload.vector(values, self._lowering.grid), self._lowering.program.ring.slots // upload.period)

    def run(self) -> dict[str, Value]:
        """Evaluate once."""
        return SealEngine(self._lowering.program, self._lowering.tables, 0, self._keys, self._plaintexts).run(self._inputs)

    def watched(self) -> tuple[float, float]:
        """Wall seconds of a run and those spent in SEAL's own operations, for the run with the median ratio of the two."""
        lowering, timings = self._lowering, []
        for _ in range(RUNS):
            engine = SealEngine(lowering.program, lowering.tables, 0, self._keys, self._plaintexts)
            watches = Stopwatch(engine._evaluator), Stopwatch(engine._encoder)
            vars(engine).update(_evaluator=watches[0], _encoder=watches[1])
            started = time.perf_counter()
            engine.run(self._inputs)
            timings.append((time.perf_counter() - started, sum(watch.spent_s for watch in watches)))
        return sorted(timings, key=lambda pair: pair[0] / pair[1])[RUNS // 2]

    def error(self) -> float:
        """The largest difference to the program in the clear."""
        clear = ClearEngine(self._lowering.program, self._lowering.tables).run(self.vectors)
        worst = 0.0
        for label, value in self.run().items():
            data = memoryview(save_answer(value.data, self._lowering.program.ring, value.level))
            worst = max(worst, float(np.abs(self._key.decrypt(data, value.level, value.scale) - clear[label].data).max()))
        return worst


def conv_maps(weights: Array, size: int) -> tuple[RegionMaps, Array]:
    """The maps of a region that is one convolution, and the convolution's matrix."""
    channels, count = weights.shape[1], weights.shape[1] * size * size
    units = np.eye(count).reshape(count, channels, size, size)
    taps = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
    matrix = correlate(units, weights.reshape(len(weights), channels, 9), taps, (size, size)).reshape(count, -1).T
    ones, zeros = np.ones((1, len(matrix))), np.zeros((1, len(matrix)))
    affine = AffineMap("y", (len(weights), size, size), {"x": matrix}, zeros[0], ones, zeros)
    return RegionMaps({"x": (channels, size, size)}, None, {}, {}, (), {"y": affine}), matrix


def activation_maps(coefficients: Array, size: int, channels: int) -> RegionMaps:
    """The maps of a region that is SiLU's polynomial on [-4, 4]. It begins and ends with the identity, as regions must."""
    shape, count = (channels, size, size), channels * size * size
    ones, zeros = np.ones((1, count)), np.zeros((1, count))
    argument = AffineMap("u", shape, {"x": np.eye(count)}, zeros[0], ones, zeros)
    polynomial = Polynomial(argument, np.array([-4.0]), np.array([4.0]), coefficients[None], "act", "")
    output = AffineMap("y", shape, {"p": np.eye(count)}, zeros[0], ones, zeros)
    return RegionMaps({"x": shape}, None, {"p": polynomial}, {}, ("p",), {"y": output})


def tenseal_vector(ring: CkksRing, x: Array) -> Any:
    """TenSEAL's own vector, in the same ring."""
    bits = [*ring.bits, ring.special_bits]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, ring.dimension, coeff_mod_bit_sizes=bits, n_threads=1)
    context.generate_galois_keys()
    context.global_scale = ring.scale
    return tenseal.ckks_vector(context, x.reshape(-1).tolist())


def measure(channels: int, size: int) -> dict[str, Any]:
    """All figures."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((channels, channels, 3, 3)) / np.sqrt(9 * channels)
    x = rng.uniform(-1, 1, (channels, size, size))
    grid = np.cos(np.pi * (np.arange(64) + 0.5) / 64) * 4
    coefficients = np.polynomial.chebyshev.chebfit(grid / 4, grid / (1 + np.exp(-grid)), 7)
    powers = np.polynomial.chebyshev.cheb2poly(coefficients) / 4.0 ** np.arange(8)
    maps, matrix = conv_maps(weights, size)
    conv_lowering = lower_maps(maps, ("y",), "conv")
    conv = Ours(conv_lowering, {"x": x})
    act_lowering = lower_maps(activation_maps(coefficients, size, channels), ("y",), "act")
    act = Ours(act_lowering, {"x": x})
    rings = [lowering.program.ring for lowering in (conv_lowering, act_lowering)]
    theirs, rows = [tenseal_vector(ring, x) for ring in rings], matrix.T.tolist()
    conv_tenseal_s = timed(lambda: theirs[0].mm(rows), runs=1)
    act_tenseal_s = timed(lambda: theirs[1].polyval(powers.tolist()))
    conv_s, act_s = timed(conv.run), timed(act.run)
    watched_s, primitive_s = (sum(pair) for pair in zip(conv.watched(), act.watched(), strict=True))
    return {
        "conv_ours_s": conv_s,
        "conv_tenseal_s": conv_tenseal_s,
        "act_ours_s": act_s,
        "act_tenseal_s": act_tenseal_s,
        "primitive_s": primitive_s,
        "overhead": watched_s / primitive_s,
        "conv_error": conv.error(),
        "act_error": act.error(),
        "rings": [ring.name for ring in rings],
        "shape": [channels, size, size],
    }


def orion_report() -> str:
    """Whether Orion v2 installs in an environment of its own. Its evaluator runs files of its own compiler only."""
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        steps = (
            [sys.executable, "-m", "venv", folder],
            [python, "-m", "pip", "install", "--quiet", "orion-v2-lattigo", "orion-v2-evaluator"],
            [python, "-c", "import lattigo, orion_evaluator"],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=600)
            if done.returncode:
                return f"not installed: {done.stderr.strip().splitlines()[-1][:200]}"
    return "installed; its evaluator runs only models of Orion's own compiler, none of which are on PyPI: not timed"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    figures = measure(*((4, 4) if options.smoke else (16, 8)))
    figures["orion"] = "left out" if options.smoke else orion_report()
    finish({"benchmark": "ckks", "smoke": options.smoke, **figures, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
