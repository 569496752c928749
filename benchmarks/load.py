"""Many clients at once at one server on loopback, digits under `bfv`; then the same with hostile connections beside them.

A run is one sampler step by `hecompile.load`. Each load lasts `seconds`, of which the first `warm_up_s` count for nothing but lost
runs and wrong answers; runs that were begun are finished. A run is lost if it raises, and an answer is wrong unless it equals
`clear` bit for bit. `disturbed` has loads without and with the attack in turn, `honest_throughput_kept` their quotient.

At the top `runs_lost` and `wrong_answers` are sums over all loads, the disturbed ones included; `requests_per_s`, `p50_ms` and
`p99_ms` are the greatest of the undisturbed loads; `rss_first_mib` and `rss_last_mib` (of the server and its children: medians of
the first and last 15 seconds after warm-up) are of the load, disturbed or not, in which memory grew most.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

import hecompile
from benchmarks.harness import arguments, finish, machine
from benchmarks.serving.processes import Clients, Server, attacked
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions

CASES = 16  # inputs whose answers are known
MEMORY_S = 15.0  # at a load's beginning and end
TIMES = ("requests_per_s", "p50_ms", "p99_ms")
LEAD_S = 0.5  # from telling the clients to the load's start


@dataclass(frozen=True)
class Settings:
    """Sizes of a benchmark."""

    loads: tuple[int, ...] = (8, 24, 64)
    processes: int = 8
    seconds: float = 90.0
    warm_up_s: float = 30.0
    disturbed: int = 24  # concurrent honest runs beside the attack
    disturbed_seconds: float = 60.0
    disturbed_warm_up_s: float = 20.0
    rounds: int = 3  # each without and with the attack
    slow_bodies: int = 16
    idle_connections: int = 300


SMOKE = Settings((2, 4), 2, 2.0, 0.5, 4, 2.0, 0.5, 1, 2, 10)


def load_row(server: Server, clients: Clients, concurrent: int, seconds: float, warm_up_s: float) -> dict[str, Any]:
    """One load, whose clients are prepared."""
    start, counted_s = time.monotonic() + LEAD_S, seconds - warm_up_s
    counted, end = start + warm_up_s, start + seconds
    seen = clients.work(start, counted, end)
    requests_ms, lost = seen["requests_ms"], Counter(seen["lost"])
    p50_ms, p99_ms = np.percentile(requests_ms, (50, 99)).tolist() if requests_ms else (None, None)
    memory_s = min(MEMORY_S, counted_s / 2)
    return {
        "concurrent": concurrent,
        "seconds": seconds,
        "runs": seen["runs"],
        "requests": len(requests_ms),
        "runs_lost": lost.total(),
        "lost": dict(lost.most_common(5)),
        "wrong_answers": seen["wrong"],
        "requests_per_s": len(requests_ms) / counted_s,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "rss_first_mib": server.memory(counted, counted + memory_s),
        "rss_last_mib": server.memory(end - memory_s, end),
    }


def write_cases(clear_folder: Path, path: Path) -> None:
    """Inputs from a seed, and what `clear` answers to each alone."""
    unet, numbers = hecompile.load(clear_folder, policy="simulation", threads=1), torch.Generator().manual_seed(0)
    samples = torch.randn((CASES, 1, 1, 8, 8), generator=numbers)
    timesteps = torch.randint(1000, (CASES,), generator=numbers)
    labels = torch.randint(10, (CASES,), generator=numbers)
    answers = [
        unet(sample, timestep, class_labels=label[None]).sample.numpy()
        for sample, timestep, label in zip(samples, timesteps.tolist(), labels, strict=True)
    ]
    np.savez(path, samples=samples.numpy(), timesteps=timesteps.numpy(), labels=labels.numpy(), answers=np.stack(answers))


def request_sizes(folder: Path) -> dict[str, int]:
    """The bytes of each region's request at batch one, from a run in this process."""
    unet, sizes = hecompile.load(folder, threads=1), dict[str, int]()
    unet.meter.observers.append(lambda region: sizes.update({region: unet.meter.bytes_up - sum(sizes.values())}))
    unet(torch.zeros(1, 1, 8, 8), 0, class_labels=torch.zeros(1, dtype=torch.long))
    return sizes


def disturbed_rows(server: Server, clients: Clients, settings: Settings, sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Run one load twice, without and then with the attack, and return both rows."""
    load = settings.disturbed, settings.disturbed_seconds, settings.disturbed_warm_up_s
    clients.prepare(server.url, settings.processes, settings.disturbed)
    quiet = load_row(server, clients, *load)
    clients.prepare(server.url, settings.processes, settings.disturbed)
    with attacked(server, settings.slow_bodies, settings.idle_connections, sizes) as begun:
        hostile = load_row(server, clients, *load)
    return [{"attacked": False, **quiet}, {"attacked": True, **hostile, "begun": begun}]


def measure(work: Path, settings: Settings) -> dict[str, Any]:
    """All figures."""
    folder, clear_folder, cases = work / "bfv", work / "clear", work / "cases.npz"
    with Clients(folder, cases) as clients:
        compile_model("digits", folder)
        compile_model("digits", clear_folder, options=CompileOptions(backend="clear"))
        write_cases(clear_folder, cases)
        sizes, loads = request_sizes(folder), list[dict[str, Any]]()
        with Server(folder) as server:
            for concurrent in settings.loads:
                clients.prepare(server.url, settings.processes, concurrent)
                loads.append(load_row(server, clients, concurrent, settings.seconds, settings.warm_up_s))
            disturbed = [row for _ in range(settings.rounds) for row in disturbed_rows(server, clients, settings, sizes)]
    manifest = json.loads((folder / "manifest.json").read_text())
    settled = {
        "backend": "bfv", "steps": 1, "requests_per_run": len(sizes), "security_bits": manifest["security_bits"],
        "limits": server.said.get("limits"),
    }  # fmt: skip
    answered = {kind: sum(row["requests"] for row in disturbed if row["attacked"] == kind) for kind in (False, True)}
    kept = answered[True] / answered[False] if answered[False] else 0.0
    for row in loads:
        row["honest_throughput_kept"] = kept if row["concurrent"] == settings.disturbed else None
    return {**totals(loads, disturbed, kept), "loads": loads, "disturbed": disturbed, **settled, "settings": asdict(settings)}


def totals(loads: list[dict[str, Any]], disturbed: list[dict[str, Any]], kept: float) -> dict[str, Any]:
    """The figures at the top."""
    every = [*loads, *disturbed]
    grown = max(every, key=lambda row: row["rss_last_mib"] - row["rss_first_mib"])
    return {
        **{key: sum(row[key] for row in every) for key in ("runs_lost", "wrong_answers")},
        **{key: max((row[key] for row in loads if row["requests"]), default=None) for key in TIMES},
        **{key: grown[key] for key in ("rss_first_mib", "rss_last_mib")},
        "honest_throughput_kept": kept,
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as work:
        figures = measure(Path(work), SMOKE if options.smoke else Settings())
    finish({"benchmark": "load", "smoke": options.smoke, **figures, "machine": machine()}, options.json)
    if figures["runs_lost"] or figures["wrong_answers"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
