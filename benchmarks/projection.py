"""What many workers would make of a strict forward of Stable Diffusion 1.5's shape: arithmetic from the cost model, not measured.

Prices are the default profile's, but for a byte's CPU time at the front, which is that of `results/scale.json`. A forward outside
a run takes `worker_s` CPU seconds of workers and `front_s` of the front, which is one process and has every byte in its
hands. `rows`: so many cores, each a worker of one thread or a front, for many clients (`forwards_per_hour`, `fronts`,
`gbit_per_s`), or all of them as shards of one evaluation for one client. A shard takes in every request whole, cuts it and
transforms it itself, and no layer has more shards than answers: so `compute_s` does not fall in proportion, and the fastest number
of `shards` may be below that of cores; `inside_gb` is what all shards together are sent. Then the front, and the network at
`NETWORK_GBIT`, one after the other. `gpu`: all products as bytes of 7 bits by int8 at the data sheet's rate of an H200 without
sparsity, and every word moved once at its memory's; what else there is to do is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import arguments, finish, machine
from hecompile.backends.bfv.choose import Choice
from hecompile.backends.bfv.costs import layer_cost
from hecompile.backends.bfv.forms import limbs_operations
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.pricing import parameters_for
from hecompile.ir.layer_groups import layer_groups
from hecompile.machine import Machine
from hecompile.predict import partitioned, predict_source, run_of

MODEL = "sd15-shaped"
CORES = (1, 2, 10, 100, 1000)
SHARDS = (1, 2, 4, 8, 10, 16, 32, 64, 100)
NETWORK_GBIT = (1, 10)
INT8_MACS = 1979e12 / 2  # of an H200's tensor cores a second, dense: two operations each
MEMORY_BYTES = 4.8e12  # a second
WORD_BYTES = 16  # of a word read and written
SCALE = Path(__file__).parent / "results" / "scale.json"


@dataclass(frozen=True)
class Forward:
    """What a forward takes: CPU seconds of workers and of the front, bytes, and its layers' choices."""

    worker_s: float
    front_s: float
    bytes_up: int
    bytes_all: int
    choices: tuple[Choice, ...]


def of_shard(layout: Layout, shards: int) -> Layout:
    """The layout of the largest shard of a layer."""
    rows = -(-layout.answers // shards) * layout.packing.p_out
    geometry = replace(layout.geometry, outputs=rows, up=(1, 1), out_size=layout.geometry.grid)
    return replace(layout, geometry=geometry)


def sharded_s(choices: Iterable[Choice], shards: int, prices: Machine) -> float:
    """CPU seconds of the busiest of so many shards."""
    return sum(
        layer_cost(of_shard(choice.layout, shards), choice.parameters.q_bits, (choice.drop_b, choice.drop_a), prices).server_s
        for choice in choices
    )


def row(forward: Forward, cores: int, prices: Machine) -> dict[str, Any]:
    """What so many cores do, for many clients and for one."""
    per_s = cores / (forward.worker_s + forward.front_s)
    compute_s, shards = min((sharded_s(forward.choices, shards, prices), shards) for shards in SHARDS if shards <= cores)
    return {
        "cores": cores,
        "forwards_per_hour": 3600 * per_s,
        "fronts": per_s * forward.front_s,
        "gbit_per_s": per_s * forward.bytes_all * 8e-9,
        "shards": shards,
        "inside_gb": shards * forward.bytes_up * 1e-9,
        "compute_s": compute_s,
        "front_s": forward.front_s,
        **one_client(forward, compute_s),
    }


def one_client(forward: Forward, compute_s: float) -> dict[str, float]:
    """Seconds of one forward at the server and on each network, and the network's share."""
    figures = dict[str, float]()
    for gbit in NETWORK_GBIT:
        network_s = forward.bytes_all * 8e-9 / gbit
        total_s = compute_s + forward.front_s + network_s
        figures |= {f"forward_s_{gbit}gbit": total_s, f"network_share_{gbit}gbit": network_s / total_s}
    return figures


def on_gpu(forward: Forward) -> dict[str, Any]:
    """The same with all products on int8 tensor cores."""
    macs = words = 0.0
    for choice in forward.choices:
        q_bits = choice.parameters.q_bits
        operations = limbs_operations(choice.layout, q_bits)
        macs += operations.macs * -(-q_bits // 7) / -(-q_bits // 8)
        words += operations.words + operations.ntts
    products_s, words_s = macs / INT8_MACS, words * WORD_BYTES / MEMORY_BYTES
    return {
        "int8_macs": macs, "products_s": products_s, "words_s": words_s, "front_s": forward.front_s,
        **one_client(forward, products_s + words_s),
    }  # fmt: skip


def front_ns() -> tuple[float, str]:
    """A byte's CPU nanoseconds at the front, and where that is from."""
    if SCALE.is_file() and (measured := json.loads(SCALE.read_text()).get("front_byte_ns")):
        return measured, "measured"
    return Machine().server_byte_ns, "profile"


def main() -> None:
    """Compute and print."""
    options = arguments(__doc__)
    prices, model = Machine(), "digits" if options.smoke else MODEL
    graph = partitioned(model)
    first = predict_source(graph, prices, 1, 1e9, run_of())
    byte_ns, source = front_ns()
    choices = [choice for group in layer_groups(graph) if (choice := parameters_for(group, prices)) is not None]
    bytes_all = first.total.up_bytes + first.total.down_bytes
    forward = Forward(first.total.server_s, bytes_all * byte_ns * 1e-9, first.total.up_bytes, bytes_all, tuple(choices))
    finish(
        {
            "benchmark": "projection", "smoke": options.smoke, "model": model, "worker_s": forward.worker_s,
            "front_s": forward.front_s, "front_byte_ns": byte_ns, "front_byte_from": source, "layers": len(choices),
            "client_s": first.total.client_s, "bytes_first": bytes_all,
            "bytes_later": first.later.up_bytes + first.later.down_bytes, "network_gbit": NETWORK_GBIT,
            "rows": [row(forward, cores, prices) for cores in CORES], "gpu": on_gpu(forward), "machine": machine(),
        },
        options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
