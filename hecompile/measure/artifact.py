"""Prediction beside measurement: an artifact runs on random inputs, in this process for the seconds of its parts, and through a
server in a second process for those of both processes, and for memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hecompile.artifact import Manifest, read_manifest
from hecompile.artifact_files import checked, read_client_half
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.registry import backend_of
from hecompile.buffers import Buffer
from hecompile.ir.candidates import PartCost
from hecompile.ir.halves import Array
from hecompile.machine import Machine, http_seconds
from hecompile.measure.server import peak_mib, process_seconds_of, server_process
from hecompile.planner.local import LocalWork, onnx_work
from hecompile.planner.plan import Prediction, predict_regions
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.service import load_service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.transports import HttpTransport, LocalTransport

__all__ = ["Measured", "compare", "measure_artifact", "predict_artifact"]

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]
FILLING_S = 2.0  # a run, for a server to have kept as many answers as it keeps


@dataclass(frozen=True)
class Measured:
    """One call of the model, medians. Seconds by region are CPU seconds of all threads while that region is worked on."""

    server_s: Mapping[str, float]
    client_s: Mapping[str, float]  # of requests
    local_s: float  # of the client's own regions
    bytes_up: int
    bytes_down: int
    wall_s: float  # through a server in a second process
    client_process_s: float  # CPU seconds of this process for that, HTTP included
    server_process_s: float  # of that process
    peak_mib: float  # of that process


def predict_artifact(folder: Path, machine: Machine, batch: int = 1) -> Prediction:
    """The prediction for an artifact on this machine alone, the client's own regions included: bytes go through loopback.

    Raises:
        CompileError: for regions of a backend without a cost model.
    """
    machine = replace(machine, rtt_ms=0.0, bandwidth_mbps=1e9)
    manifest = read_manifest(folder)
    parts, local = dict[str, list[PartCost]](), LocalWork()
    for step in manifest.plan.steps:
        prefix = f"client/{step.region}"
        if step.kind == "call":
            half = read_client_half(folder, manifest.files, prefix)
            parts[step.region] = backend_of(half).price(half, machine, batch)
        else:
            local += onnx_work(checked(folder, manifest.files, f"{prefix}.onnx"), batch)
    per_run = {step.region for step in manifest.plan.steps if step.once}
    return predict_regions(parts, machine, local, per_run)


@dataclass
class _Clock:
    """CPU seconds of this process, by side and region, of one call."""

    spent: dict[tuple[str, str], float] = field(default_factory=dict)

    @contextmanager
    def of(self, side: str, region: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.spent[side, region] = self.spent.get((side, region), 0.0) + time.process_time() - started

    def side(self, side: str) -> dict[str, float]:
        return {region: seconds for (found, region), seconds in self.spent.items() if found == side}


class _TimedClient(RegionClient):
    """A region's client whose work is timed."""

    def __init__(self, region: str, inner: RegionClient, clock: _Clock) -> None:
        self.inputs, self.outputs, self.max_batch = inner.inputs, inner.outputs, inner.max_batch
        self._region, self._inner, self._clock = region, inner, clock

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        with self._clock.of("client", self._region):
            return self._inner.encrypt(values, batch, secrets)

    def key_sizes(self) -> Mapping[str, int]:
        return self._inner.key_sizes()

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        return self._inner.evaluation_keys(secrets)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        with self._clock.of("client", self._region):
            return self._inner.decrypt(reply, pending)

    def request_bytes(self, batch: int) -> int:
        return self._inner.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._inner.reply_bytes(batch)


class _TimedSession:
    """A client region's session whose work is timed."""

    def __init__(self, region: str, inner: Any, clock: _Clock) -> None:
        self._region, self._inner, self._clock = region, inner, clock
        self.data = inner.data

    def run(self, outputs: Any, feeds: Any) -> Any:
        with self._clock.of("local", self._region):
            return self._inner.run(outputs, feeds)


class _TimedServer(RegionServer):
    """A region's server in this process whose evaluations are timed, those in processes of its own included."""

    def __init__(self, region: str, inner: RegionServer, clock: _Clock) -> None:
        self.max_batch = inner.max_batch
        self._region, self._inner, self._clock = region, inner, clock

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        before_s = self._inner.worked_s
        with self._clock.of("server", self._region):
            reply = self._inner.evaluate(payload, batch, session)
        self._clock.spent["server", self._region] += self._inner.worked_s - before_s
        return reply

    def request_bytes(self, batch: int) -> int:
        return self._inner.request_bytes(batch)

    def key_sizes(self) -> Mapping[str, int]:
        return self._inner.key_sizes()

    def load_key(self, name: str, data: memoryview) -> object:
        return self._inner.load_key(name, data)

    def held_bytes(self, name: str) -> int:
        return self._inner.held_bytes(name)


def _inputs(manifest: Manifest, batch: int) -> dict[str, Array]:
    """Gaussian values, zeros where integers are wanted."""
    rng = np.random.default_rng(0)
    found = {}
    for spec in manifest.inputs:
        shape = [int(dim.removesuffix("B") or 1) * batch if isinstance(dim, str) else dim for dim in spec.shape]
        value = rng.standard_normal(shape) if spec.dtype.startswith("float") else np.zeros(shape)
        found[spec.name] = np.asarray(value, np.dtype(spec.dtype))
    return found


def measure_artifact(folder: Path, batch: int = 1, runs: int = 5) -> Measured:
    """Run an artifact whose two halves lie here, twice so often and twice more; then until its server keeps no more answers.

    Raises:
        ProtocolError: if a half is missing or changed.
    """
    manifest = read_manifest(folder)
    bundle, inputs = load_bundle(folder, manifest.policy), _inputs(manifest, batch)
    clocks = _timed_runs(bundle, folder, inputs, batch, runs)
    with server_process([*SERVE, str(folder), "--port", "0", "--json"]) as (server, line):
        transport = HttpTransport(json.loads(line)["url"], timeout_s=600.0)
        executor, spent = Executor(bundle, transport), list[tuple[float, float, float]]()
        for _ in range(runs + 1):
            executor.start_run()
            before = time.perf_counter(), time.process_time(), process_seconds_of(server)
            executor.run(inputs, batch)
            after = time.perf_counter(), time.process_time(), process_seconds_of(server)
            spent.append((after[0] - before[0], after[1] - before[1], after[2] - before[2]))
        meter, until = executor.meter, time.monotonic() + FILLING_S * runs
        bytes_up, bytes_down = meter.bytes_up // meter.calls, meter.bytes_down // meter.calls
        while meter.bytes_down < Limits().kept_bytes and time.monotonic() < until:  # the server keeps answers for a while
            executor.start_run()
            executor.run(inputs, batch)
        peak = peak_mib(server)
        transport.close()
    wall_s, client_s, server_s = (median(column[1:]) for column in zip(*spent, strict=True))
    sides = {side: [clock.side(side) for clock in clocks] for side in ("server", "client", "local")}
    return Measured(
        _medians(sides["server"]), _medians(sides["client"]), sum(_medians(sides["local"]).values()),
        bytes_up, bytes_down, wall_s, client_s, server_s, peak,
    )  # fmt: skip


def _timed_runs(bundle: Bundle, folder: Path, inputs: Mapping[str, Array], batch: int, runs: int) -> list[_Clock]:
    """One clock per run, the first run left out."""
    service, clocks = load_service(folder), list[_Clock]()
    for _ in range(runs + 1):
        clock = _Clock()
        calls = {region: _TimedClient(region, client, clock) for region, client in bundle.calls.items()}
        sessions: Any = {region: _TimedSession(region, session, clock) for region, session in bundle.sessions.items()}
        regions = {region: _TimedServer(region, server, clock) for region, server in service.regions.items()}
        transport = LocalTransport(replace(service, regions=regions))
        Executor(replace(bundle, calls=calls, sessions=sessions), transport).run(inputs, batch)
        clocks.append(clock)
    return clocks[1:]


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {region: median(run[region] for run in runs) for region in runs[0]}


def compare(prediction: Prediction, measured: Measured) -> dict[str, Any]:
    """Predicted and measured, and measured over predicted: totals, then by region."""
    total, machine = prediction.total, prediction.machine
    client_http_s, server_http_s = http_seconds(total, machine)
    pairs = {
        "server_s": (total.server_s, sum(measured.server_s.values())),
        "client_s": (total.client_s, sum(measured.client_s.values()) + measured.local_s),
        "client_process_s": (total.client_s + client_http_s, measured.client_process_s),
        "server_process_s": (total.server_s + server_http_s, measured.server_process_s),
        "wall_s": (prediction.latency_s, measured.wall_s),
        "bytes_up": (total.up_bytes, measured.bytes_up),
        "bytes_down": (total.down_bytes, measured.bytes_down),
        "peak_mib": (prediction.peak_mib, measured.peak_mib),
    }
    regions = [
        {
            "region": each.region,
            **_pair("server_s", each.cost.server_s, measured.server_s[each.region]),
            **_pair("client_s", each.cost.client_s, measured.client_s[each.region]),
        }
        for each in prediction.regions
    ]
    return {"total": [{"what": name, **_pair("", *pair)} for name, pair in pairs.items()], "regions": regions}


def _pair(name: str, predicted: float, found: float) -> dict[str, float]:
    prefix = f"{name}_" if name else ""
    return {f"{prefix}predicted": predicted, f"{prefix}measured": found, f"{prefix}ratio": found / predicted if predicted else 1.0}
