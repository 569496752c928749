"""Predicts and measures what an artifact costs on this machine, on random inputs.

It runs within this process to measure the CPU seconds of each region, and through a server in a second process to measure the CPU
seconds and the memory of both processes.
"""

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
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array
from hecompile.machine import Machine, http_seconds
from hecompile.measure.server import peak_mib, process_seconds_of, server_process
from hecompile.planner.artifact import predict_manifest
from hecompile.planner.plan import Prediction
from hecompile.runtime.bundle import Bundle, load_bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.service import load_service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.transports import HttpTransport, LocalTransport
from hecompile.timing import Span

__all__ = ["Measured", "compare", "measure_artifact", "predict_artifact"]

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]
FILLING_S = 2.0  # time limit in seconds, times the runs, of filling the server's store of answers


@dataclass(frozen=True)
class Measured:
    """What one call of the model takes, as medians.

    Seconds by region are CPU seconds of all threads while that region is computed.
    """

    server_s: Mapping[str, float]
    client_s: Mapping[str, float]  # of requests, by region
    local_s: float  # of the client's own regions
    bytes_up: int
    bytes_down: int
    wall_s: float  # through a server in a second process
    client_process_s: float  # CPU seconds of this process for that, HTTP included
    server_process_s: float  # CPU seconds of the server's process
    peak_mib: float  # of the server's process
    spans: tuple[Span, ...]  # of the middle one of calls with both halves in this process, where the server's part is known


def predict_artifact(folder: Path, machine: Machine, batch: int = 1) -> Prediction:
    """Predict the cost of an artifact on this machine, where client and server are connected by loopback.

    The client's own regions are included.

    Raises:
        CompileError: if a region's backend has no prices.
    """
    return predict_manifest(folder, read_manifest(folder), replace(machine, rtt_ms=0.0, bandwidth_mbps=1e9), batch)


@dataclass
class _Clock:
    """Adds up the CPU seconds of this process during one call, by side (`server`, `client` or `local`) and region.

    `spans` say when each part of the call ran.
    """

    spent: dict[tuple[str, str], float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)

    @contextmanager
    def of(self, side: str, region: str) -> Iterator[None]:
        """Count the CPU seconds within the `with` block for a side and region."""
        started = time.process_time()
        yield
        self.spent[side, region] = self.spent.get((side, region), 0.0) + time.process_time() - started

    def side(self, side: str) -> dict[str, float]:
        """The CPU seconds of one side, by region."""
        return {region: seconds for (spender, region), seconds in self.spent.items() if spender == side}


class _TimedClient(RegionClient):
    """A region's client with a clock around its work."""

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
    """A session of ONNX Runtime for a client's own region, with a clock around its work."""

    def __init__(self, region: str, inner: Any, clock: _Clock) -> None:
        self._region, self._inner, self._clock = region, inner, clock
        self.data = inner.data

    def run(self, outputs: Any, feeds: Any) -> Any:
        with self._clock.of("local", self._region):
            return self._inner.run(outputs, feeds)


class _TimedServer(RegionServer):
    """A region's server in this process with a clock around its evaluations, worker processes included."""

    def __init__(self, region: str, inner: RegionServer, clock: _Clock) -> None:
        self.max_batch = inner.max_batch
        self._region, self._inner, self._clock = region, inner, clock

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        before_s, began = self._inner.worked_s, time.perf_counter()
        with self._clock.of("server", self._region):
            reply = self._inner.evaluate(payload, batch, session)
        self._clock.spans.append(Span(self._region, "server", began, time.perf_counter()))
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
    """Random inputs of the model, by name: Gaussian values for floats, zeros for integers."""
    rng = np.random.default_rng(0)
    inputs = {}
    for spec in manifest.inputs:
        shape = [int(dim.removesuffix("B") or 1) * batch if isinstance(dim, str) else dim for dim in spec.shape]
        value = rng.standard_normal(shape) if spec.dtype.startswith("float") else np.zeros(shape)
        inputs[spec.name] = np.asarray(value, np.dtype(spec.dtype))
    return inputs


def measure_artifact(folder: Path, batch: int = 1, runs: int = 5) -> Measured:
    """Run an artifact whose two halves lie in `folder`, and measure it.

    It runs `runs` times and once more to warm up within this process, then as often through a server, and then until the server
    keeps as many answers as it ever does, so that its memory is at its peak.

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
        bytes_up, bytes_down, wall_s, client_s, server_s, peak, tuple(_middle(clocks).spans),
    )  # fmt: skip


def _timed_runs(bundle: Bundle, folder: Path, inputs: Mapping[str, Array], batch: int, runs: int) -> list[_Clock]:
    """Run an artifact within this process. Returns the clock of every run but the first."""
    service, clocks = load_service(folder), list[_Clock]()
    for _ in range(runs + 1):
        clock = _Clock()
        calls = {region: _TimedClient(region, client, clock) for region, client in bundle.calls.items()}
        models: Any = {region: _TimedSession(region, model, clock) for region, model in bundle.client_models.items()}
        regions = {region: _TimedServer(region, server, clock) for region, server in service.regions.items()}
        transport = LocalTransport(replace(service, regions=regions))
        executor = Executor(replace(bundle, calls=calls, client_models=models), transport)
        executor.run(inputs, batch)
        clock.spans = sorted([*executor.meter.spans, *clock.spans], key=lambda span: span.start_s)
        clocks.append(clock)
    return clocks[1:]


def _middle(clocks: Sequence[_Clock]) -> _Clock:
    """The call that took neither longest nor shortest."""
    return sorted(clocks, key=lambda clock: clock.spans[-1].end_s - clock.spans[0].start_s)[len(clocks) // 2]


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median over runs, by region."""
    return {region: median(run[region] for run in runs) for region in runs[0]}


def compare(prediction: Prediction, measured: Measured) -> dict[str, Any]:
    """Predicted and measured figures and their ratio (measured over predicted), for JSON: totals, and by region."""
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
            "region": predicted.region,
            **_pair("server_s", predicted.cost.server_s, measured.server_s[predicted.region]),
            **_pair("client_s", predicted.cost.client_s, measured.client_s[predicted.region]),
        }
        for predicted in prediction.regions
    ]
    return {"total": [{"what": name, **_pair("", *pair)} for name, pair in pairs.items()], "regions": regions}


def _pair(name: str, predicted: float, measured: float) -> dict[str, float]:
    """Both figures and their ratio, with keys that begin with `name`."""
    prefix = f"{name}_" if name else ""
    ratio = measured / predicted if predicted else 1.0
    return {f"{prefix}predicted": predicted, f"{prefix}measured": measured, f"{prefix}ratio": ratio}
