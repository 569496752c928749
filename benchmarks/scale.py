"""`hecompile serve --ray`: two workers of one thread against one such, a worker that is killed, shards, and a whole picture.

Requests are encrypted beforehand, for the convolutions of Stable Diffusion's middle widths, and sent by a process of its own; every
reply is compared with what one server gives. In each round one worker and two workers have the same load, one after the other:
`speedup` is the median of the rounds' quotients. Beside each load stand the cores that the front, the workers, the rest of Ray,
the load generator and all others on this machine kept busy: where others are at work, two workers get less than two cores.
`front_byte_ns`: CPU time of a byte at the front. `killed`: under load one of two workers gets
SIGKILL. `shards`: each evaluation by two workers. `picture_equal`: ten steps of the trained digits through workers and here.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file has the name of a library
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

from benchmarks.harness import arguments, finish, machine
from benchmarks.serving.processes import ROOT, Server, family
from benchmarks.serving.stored import Connection, Seen, read
from hecompile.backends.region_client import RegionClient
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.service import load_service
from hecompile.runtime.wire import pack_request
from hecompile.sampling.labels import draw_labels

NAMES = ("large", "middle", "small")
WIDE = ((320, 64), (640, 32), (1280, 16))  # channels, and rows and columns of the picture


@dataclass(frozen=True)
class Settings:
    """Sizes of a benchmark."""

    layers: tuple[tuple[int, int], ...] = WIDE
    rounds: int = 5
    seconds: float = 24.0  # of a load
    counted_s: float = 20.0
    connections: int = 4
    single: int = 8  # requests one after the other, for their latency
    steps: int = 10  # of a picture; 0: none is drawn


SMOKE = Settings(((16, 16), (32, 8), (64, 4)), 1, 2.0, 1.5, 3, 2, 0)


class Wide(torch.nn.Module):
    """Convolutions side by side, each on an input of its own."""

    def __init__(self, layers: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(channels, channels, 3, padding=1) for channels, _ in layers)

    def forward(self, large: torch.Tensor, middle: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        results = [layer(picture) for layer, picture in zip(self.layers, (large, middle, small), strict=True)]
        return torch.cat([result.mean((2, 3)) for result in results], dim=1)


def store(folder: Path, target: Path, shapes: dict[str, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Write a request for each region of an artifact, with the reply that one server gives; the bytes of both."""
    bundle, service, numbers, sizes = load_bundle(folder), load_service(folder), np.random.default_rng(0), list[tuple[int, int]]()
    for place, (name, client) in enumerate(bundle.calls.items()):
        body = _encrypted(client, numbers, shapes)
        (target / f"{place}.request").write_bytes(body)
        reply = service.answer(service.digest, name, body)
        (target / f"{place}.reply").write_bytes(reply)
        (target / f"{place}.path").write_text(f"/v1/artifacts/{service.digest}/regions/{name}")
        sizes.append((len(body), len(reply)))
    return sizes


def _encrypted(client: RegionClient, numbers: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> bytes:
    values = [numbers.standard_normal(shapes[name], np.float32) for name in client.inputs]
    return b"".join(pack_request(1, client.encrypt(values, 1)[0]))


def load(
    server: Server, requests: Path, settings: Settings, connections: int, during: Callable[[], object] = int
) -> dict[str, Any]:
    """What one load saw; `during` is called in its middle."""
    command = [sys.executable, "-m", "benchmarks.serving.stored", server.url, str(requests)]
    numbers = map(str, (connections, settings.counted_s, settings.seconds))
    process = subprocess.Popen([*command, *numbers], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    time.sleep(settings.seconds - settings.counted_s)
    before = Used.now(server)
    time.sleep(settings.counted_s / 2)
    during()
    written, _ = process.communicate()
    used = Used.now(server)
    seen = json.loads(written)
    ended, generator_s = sorted(seen.pop("ended")), seen.pop("cpu_s")
    rate = (len(ended) - 1) / (ended[-1] - ended[0]) if len(ended) > 2 else None
    shares = used.shares(before) | {"generator_cpu_share": generator_s / settings.counted_s}
    shares["others_cpu_share"] = max(0.0, shares["others_cpu_share"] - shares["generator_cpu_share"])
    return {**seen, "lost": sum(seen["lost"].values()), "why": seen["lost"], "requests_per_s": rate, **shares}


@dataclass(frozen=True)
class Used:
    """CPU seconds so far, at a moment: of each of a server's processes, and of this machine in all."""

    moment: float
    processes: dict[int, tuple[str, float]]  # what each is, and its seconds
    machine: float

    @classmethod
    def now(cls, server: Server) -> Used:
        kinds = dict.fromkeys(family(server.pid), "ray") | dict.fromkeys(workers(server), "workers") | {server.pid: "front"}
        user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        return cls(time.monotonic(), {pid: (kind, cpu_s(pid)) for pid, kind in kinds.items()}, busy)

    def shares(self, before: Used) -> dict[str, float]:
        """Return the mean number of cores that each kind of process used since `before`; `others` are outside the server."""
        passed, seconds = self.moment - before.moment, {"front": 0.0, "workers": 0.0, "ray": 0.0}
        for pid, (kind, used_s) in self.processes.items():
            seconds[kind] += used_s - before.processes.get(pid, (kind, 0.0))[1]
        seconds["others"] = self.machine - before.machine - sum(seconds.values())
        return {f"{name}_cpu_share": spent_s / passed for name, spent_s in seconds.items()}


def cpu_s(pid: int) -> float:
    """CPU seconds of one process so far, without its children's; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def workers(server: Server) -> list[int]:
    """The processes of a server's replicas."""
    return [pid for pid in family(server.pid) if "ServeReplica" in _name(pid)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def on_ray(folder: Path, replicas: int, *more: str) -> Server:
    """Always so many workers of one thread."""
    number = str(replicas)
    return Server(folder, "--ray", "--replicas", number, "--idle-replicas", number, "--threads", "1", *more)


def speedups(folder: Path, requests: Path, settings: Settings) -> dict[str, Any]:
    """Two workers against one, and then two of which one is killed."""
    rows = list[dict[str, Any]]()
    with on_ray(folder, 1) as one, on_ray(folder, 2) as two:
        latency = alone(one, requests, settings)
        for _ in range(settings.rounds):
            for count, server in ((1, one), (2, two)):
                rows.append({"workers": count, **load(server, requests, settings, settings.connections)})
        victim = workers(two)[0]
        killed = load(two, requests, settings, settings.connections, lambda: os.kill(victim, signal.SIGKILL))
        replaced = victim not in workers(two)
        killed |= {"workers": 2, "evaluated_again": metric(two, "hecompile_retried_evaluations_total"), "victim_gone": replaced}
    rates = [[row["requests_per_s"] for row in rows if row["workers"] == count] for count in (1, 2)]
    quotients = [two / one for one, two in zip(*rates, strict=True) if one and two]
    return {
        "speedup": statistics.median(quotients) if quotients else None,
        "speedups": quotients,
        "loads": rows,
        "killed": killed,
    } | ({"one_worker_s": latency})


def alone(server: Server, requests: Path, settings: Settings) -> float:
    """Mean seconds of a request, one after the other."""
    seen, stored = Seen(), read(requests)
    connection, taken = Connection(server.url, seen), list[float]()
    for place in range(settings.single * len(stored)):
        begun, request = time.perf_counter(), stored[place % len(stored)]
        if connection.ask(request) != request.reply:
            raise SystemExit("a reply is wrong or lost")
        taken.append(time.perf_counter() - begun)
    return statistics.mean(taken)


def metric(server: Server, name: str) -> float:
    """A number of a server's metrics."""
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


def sharded(folder: Path, requests: Path, settings: Settings) -> dict[str, Any]:
    """Each evaluation by two workers: compared within the load, byte for byte."""
    with on_ray(folder, 1, "--shards", "2") as server:
        latency = alone(server, requests, settings)
        return {"shards": 2, "seconds": latency, **load(server, requests, settings, 1)}


def drawn(work: Path, settings: Settings) -> dict[str, Any]:
    """The same picture through workers and in this process."""
    folder, pictures = work / "digits", list[bytes]()
    compile_model("digits", folder)
    with on_ray(folder, 2) as server:
        for place, url in enumerate((server.url, None)):
            picture = work / f"{place}.png"
            draw_labels(folder, url, [3], settings.steps, 0, "ddim", "strict", picture, False, False, {})
            pictures.append(picture.read_bytes())
    return {"picture_steps": settings.steps, "picture_equal": pictures[0] == pictures[1]}


def measure(work: Path, settings: Settings) -> dict[str, Any]:
    """All figures."""
    folder, requests = work / "wide", work / "requests"
    requests.mkdir()
    model = Wide(settings.layers).eval()
    shapes: dict[str, tuple[int, ...]] = {
        name: (1, channels, side, side) for name, (channels, side) in zip(NAMES, settings.layers, strict=True)
    }
    examples = {name: torch.randn(2, *shape[1:]) for name, shape in shapes.items()}
    compile_model(model, folder, options=CompileOptions(max_batch=1), example_inputs=examples)
    sizes = store(folder, requests, shapes)
    figures = {"bytes_up_down": sizes, **speedups(folder, requests, settings)}
    each_bytes = sum(map(sum, sizes)) / len(sizes)
    figures["front_byte_ns"] = statistics.median(
        1e9 * row["front_cpu_share"] / row["requests_per_s"] / each_bytes for row in figures["loads"] if row["requests_per_s"]
    )
    figures["shards"] = sharded(folder, requests, settings)
    figures |= drawn(work, settings) if settings.steps else {"picture_steps": 0, "picture_equal": None}
    every = [*figures["loads"], figures["killed"], figures["shards"]]
    return {
        **{key: sum(row[key] for row in every) for key in ("lost", "wrong")}, **figures, "settings": asdict(settings),
        "security_bits": json.loads((folder / "manifest.json").read_text())["security_bits"],
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    try:
        import ray
    except ImportError:
        finish(
            {"benchmark": "scale", "smoke": options.smoke, "skipped": "ray is not installed: pip install 'hecompile[ray]'"},
            options.json,
        )
        return
    with tempfile.TemporaryDirectory() as work:
        figures = measure(Path(work), SMOKE if options.smoke else Settings(rounds=options.runs))
    finish({"benchmark": "scale", "smoke": options.smoke, **figures, "ray": ray.__version__, "machine": machine()}, options.json)
    if figures["lost"] or figures["wrong"] or figures["picture_equal"] is False:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
