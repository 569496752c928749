"""Measures for a profile what `ckks` takes: key switches, products, rescalings, encodings, and the client's work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["measure_ckks"]

DEPTHS = (2, 4, 6)  # levels of rings at dimensions 4096 and 8192; prices at 16384 are much the same
KEYS, PLAINTEXTS = 8, 24  # used in turn, as programs use them: together they exceed the CPU's caches


def measure_ckks(runs: int) -> dict[str, float]:
    """Measure the fields of a profile that are about `ckks`, in nanoseconds a word. Each is the median over several rings.

    The result is empty if the extra `ckks` is not installed.
    """
    if importlib.util.find_spec("seal") is None:
        return {}
    rings = [_ring_prices(depth, runs) for depth in DEPTHS]
    return {name: float(np.median([prices[name] for prices in rings])) for name in rings[0]}


def _ring_prices(depth: int, runs: int) -> dict[str, float]:
    """The same fields for fresh ciphertexts in one ring of this depth."""
    from hecompile.backends.ckks.choose import ring_for
    from hecompile.backends.ckks.keys import load_key, rotation_name
    from hecompile.backends.ckks.program import SlotOp, SlotProgram
    from hecompile.backends.ckks.seal import load_fresh, save_answer
    from hecompile.backends.ckks.seal_engine import SealEngine
    from hecompile.backends.ckks.secret import SecretKey
    from hecompile.backends.ckks.value import Value
    from hecompile.timing import thread_seconds

    ring = ring_for(depth, 1, "a profile")
    secret, keys = SecretKey(ring), dict[str, object]()
    turns = [SlotOp(f"y{steps}", "rotate", ("x",), depth, ring.scale, 1.0, "", {"steps": steps}) for steps in range(1, KEYS + 1)]
    for steps in range(1, KEYS + 1):
        name = rotation_name(ring, steps)
        keys[name] = load_key(SlotProgram(ring, tuple(turns)), name, memoryview(secret.galois_key(steps)))
    vectors = np.random.default_rng(0).standard_normal((PLAINTEXTS, ring.slots))
    vector, names = vectors[0], tuple(["x"] * PLAINTEXTS)
    dot = SlotOp("z", "dot", names, depth, ring.scale**2, 1.0, "", {"table": "@t0", "row": 0, "roll": 0, "scaled": "none"})
    engine = SealEngine(SlotProgram(ring, (*turns, dot)), {"t0": vectors}, 0, keys)
    data = memoryview(secret.encrypt(vector, depth, ring.scale))
    value = Value(depth, ring.scale, 2, load_fresh(data, ring, depth, ring.scale))
    scaled = engine.times(value, 1.0, ring.scale)
    answer = memoryview(save_answer(engine.switch(value, 0).data, ring, 0))
    words = ring.dimension * (depth + 1)
    tasks: Sequence[tuple[str, int, Callable[[], object]]] = (
        ("ckks_key_switch_ns", KEYS * words * (depth + 2), lambda: [engine.rotate(value, steps) for steps in range(1, KEYS + 1)]),
        ("ckks_multiply_ns", 2 * PLAINTEXTS * words, lambda: engine.dot([value] * PLAINTEXTS, dot)),
        ("ckks_rescale_ns", 2 * words, lambda: engine.rescale(scaled)),
        ("ckks_encode_ns", words, lambda: engine._encoded(vector, depth, ring.scale)),
        ("ckks_load_ns", words, lambda: load_fresh(data, ring, depth, ring.scale)),
        ("ckks_encrypt_ns", words, lambda: secret.encrypt(vector, depth, ring.scale)),
        ("ckks_decrypt_ns", ring.dimension, lambda: secret.decrypt(answer, 0, ring.scale)),
    )
    return {field: thread_seconds(task, runs) / amount * 1e9 for field, amount, task in tasks}
