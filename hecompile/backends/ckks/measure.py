"""Measuring the primitives of `ckks` for a profile: key switches, products, rescalings, encodings, and what the client does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["measure_ckks"]

DEPTHS = (2, 4, 6)  # at dimensions 4096 and 8192; prices are much the same at 16384
KEYS, PLAINTEXTS = 8, 24  # in turn, as programs use them: more than caches hold


def measure_ckks(runs: int) -> dict[str, float]:
    """The fields of a profile that are about `ckks`, in nanoseconds a word: medians over rings, whose prices are much the same.

    None without the extra `ckks`.
    """
    if importlib.util.find_spec("seal") is None:
        return {}
    found = [_ring_prices(depth, runs) for depth in DEPTHS]
    return {name: float(np.median([prices[name] for prices in found])) for name in found[0]}


def _ring_prices(depth: int, runs: int) -> dict[str, float]:
    """Prices of fresh ciphertexts in one ring."""
    from hecompile.backends.ckks.choose import ring_for
    from hecompile.backends.ckks.keys import load_key, rotation_name
    from hecompile.backends.ckks.program import Op, SlotProgram
    from hecompile.backends.ckks.seal import load_fresh, save_answer
    from hecompile.backends.ckks.seal_engine import SealEngine
    from hecompile.backends.ckks.secret import SecretKey
    from hecompile.backends.ckks.value import Value
    from hecompile.timing import thread_seconds

    ring = ring_for(depth, 1, "a profile")
    secret, keys = SecretKey(ring), dict[str, object]()
    turns = [Op(f"y{steps}", "rotate", ("x",), depth, ring.scale, 1.0, "", {"steps": steps}) for steps in range(1, KEYS + 1)]
    for steps in range(1, KEYS + 1):
        name = rotation_name(ring, steps)
        keys[name] = load_key(SlotProgram(ring, tuple(turns)), name, memoryview(secret.galois_key(steps)))
    vectors = np.random.default_rng(0).standard_normal((PLAINTEXTS, ring.slots))
    vector, names = vectors[0], tuple(["x"] * PLAINTEXTS)
    dot = Op("z", "dot", names, depth, ring.scale**2, 1.0, "", {"table": "@t0", "row": 0, "roll": 0, "scaled": "none"})
    engine = SealEngine(SlotProgram(ring, (*turns, dot)), {"t0": vectors}, 0, keys)
    data = memoryview(secret.encrypt(vector, depth, ring.scale))
    value = Value(depth, ring.scale, 2, load_fresh(data, ring, depth, ring.scale))
    scaled = engine.times(value, 1.0, ring.scale)
    answer = memoryview(save_answer(engine.switch(value, 0).data, ring, 0))
    words = ring.dimension * (depth + 1)
    tasks: Sequence[tuple[str, int, Callable[[], object]]] = (
        ("switch_ns", KEYS * words * (depth + 2), lambda: [engine.rotate(value, steps) for steps in range(1, KEYS + 1)]),
        ("product_ns", 2 * PLAINTEXTS * words, lambda: engine.dot([value] * PLAINTEXTS, dot)),
        ("rescale_ns", 2 * words, lambda: engine.rescale(scaled)),
        ("encode_ns", words, lambda: engine._encoded(vector, depth, ring.scale)),
        ("load_ns", words, lambda: load_fresh(data, ring, depth, ring.scale)),
        ("seal_ns", words, lambda: secret.encrypt(vector, depth, ring.scale)),
        ("open_ns", ring.dimension, lambda: secret.decrypt(answer, 0, ring.scale)),
    )
    return {field: thread_seconds(task, runs) / amount * 1e9 for field, amount, task in tasks}
