"""One executor for every backend and transport: walks the plan over named values.

What it sends depends on public data only. Values are clipped where they cannot be encrypted, never refused in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from hecompile import _core
from hecompile.backends.region_client import RegionClient, Secrets
from hecompile.buffers import total_bytes
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.plan import Step
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.judge_graph import judge_graph
from hecompile.runtime.transports import Transport
from hecompile.runtime.wire import pack_keys, pack_request

__all__ = ["Executor", "Meter"]


@dataclass
class Meter:
    """What was measured so far. Seconds are CPU seconds of all threads of the client's process, but for those of waiting and the
    wall."""

    calls: int = 0  # of the model
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    encrypt_s: float = 0.0
    send_s: float = 0.0  # what the transport takes, both ways
    key_bytes: int = 0  # evaluation keys, sent once per session
    key_s: float = 0.0  # making and sending them
    decrypt_s: float = 0.0
    local_s: float = 0.0  # client regions
    wait_s: float = 0.0  # wall seconds from sending a request to having its reply
    wall_s: float = 0.0
    excursions: dict[str, int] = field(default_factory=dict)  # what left its range, a sentence each, and in how many calls
    observers: list[Callable[[str], None]] = field(default_factory=list, repr=False)

    @property
    def client_s(self) -> float:
        return self.encrypt_s + self.send_s + self.decrypt_s + self.local_s + self.key_s


@dataclass(frozen=True, repr=False)
class _Open:
    """A session at the server and the secrets that belong to it."""

    identifier: str
    secrets: Secrets


class Executor:
    """Runs a plan. Keeps the answers of `once` regions until it is told to forget them, what regions keep of a run until the next
    run starts, and the session until it is closed."""

    def __init__(self, bundle: Bundle, transport: Transport) -> None:
        self.bundle, self.meter = bundle, Meter()
        self._transport = transport
        self._ends = _ends(bundle)
        self._kept: dict[str, dict[str, Array]] = {}
        self._session: _Open | None = None
        self._judged = {bundle.manifest.max_batch}  # batches that client regions were judged at

    def forget(self) -> None:
        """Forget the answers of `once` regions: the next call may have other conditions."""
        self._kept = {}

    def start_run(self) -> None:
        """Forget all that was kept of the last run."""
        self.forget()
        for client in self.bundle.calls.values():
            client.start_run()

    def close(self) -> None:
        """Ask the server to forget the keys, if it has any; a server that is gone will forget them by itself."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(ProtocolError):
                self._transport.close_session(self.bundle.manifest.server, session.identifier)

    def _open_session(self) -> _Open:
        """Fresh secrets for every region that needs them, their evaluation keys left at the server."""
        started, secrets, keys = time.process_time(), Secrets(), dict[str, bytes]()
        for client in self.bundle.calls.values():
            if not set(client.key_sizes()) <= set(keys):
                keys.update(client.evaluation_keys(secrets))
        body = pack_keys(keys)
        session = _Open(self._transport.open_session(self.bundle.manifest.server, body), secrets)
        self.meter.key_bytes += total_bytes(body)
        self.meter.key_s += time.process_time() - started
        return session

    def run(self, inputs: Mapping[str, Array], batch: int) -> list[Array]:
        """The model's outputs for one batch, at most the artifact's largest.

        Raises:
            ProtocolError: if the server refuses, is gone, or answers what is no answer.
        """
        self._judge_batch(batch)
        started = time.perf_counter()
        values = dict(inputs)
        plan = self.bundle.manifest.plan
        for step, ends in zip(plan.steps, self._ends, strict=True):
            if step.kind == "client":
                values.update(self._local(step, values))
            elif step.once:
                key = f"{step.region}/{batch}"
                if key not in self._kept:
                    self._kept[key] = self._call(step, values, batch)
                values.update(self._kept[key])
            else:
                values.update(self._call(step, values, batch))
            for name in ends:
                del values[name]
        self._note_excursions(values)
        self.meter.calls += 1
        self.meter.wall_s += time.perf_counter() - started
        return [values[name] for name in plan.outputs]

    def _judge_batch(self, batch: int) -> None:
        """Judge the client's regions at a batch that is called for the first time, before anything is sent."""
        if batch not in self._judged:
            for name, region in self.bundle.sessions.items():
                judge_graph(region.data, name, batch)
            self._judged.add(batch)

    def _note_excursions(self, values: Mapping[str, Array]) -> None:
        """Count what left its range, after the call's last message: no message may wait for what a value is."""
        for step in self.bundle.manifest.plan.steps:
            if step.kind == "call" and self.bundle.calls[step.region].has_ranges:
                inputs, outputs = ([values[name] for name in names] for names in (step.inputs, step.outputs))
                for excursion in self.bundle.calls[step.region].excursions(inputs, outputs):
                    self.meter.excursions[excursion] = self.meter.excursions.get(excursion, 0) + 1

    def _local(self, step: Step, values: Mapping[str, Array]) -> dict[str, Array]:
        started = time.process_time()
        results = self.bundle.sessions[step.region].run(list(step.outputs), {name: values[name] for name in step.inputs})
        self.meter.local_s += time.process_time() - started
        return dict(zip(step.outputs, results, strict=True))

    def _call(self, step: Step, values: Mapping[str, Array], batch: int) -> dict[str, Array]:
        client = self.bundle.calls[step.region]
        inputs = [values[name] for name in step.inputs]
        if not client.key_sizes():
            return self._exchange(step, client, inputs, batch, None)
        known, self._session = self._session is not None, self._session or self._open_session()
        try:
            return self._exchange(step, client, inputs, batch, self._session)
        except ProtocolError as error:
            if not known or error.status not in (404, 410):
                raise
        self._session = None  # the server forgot it: fresh secrets, and what was encrypted for the old ones is encrypted anew
        self._session = self._open_session()
        return self._exchange(step, client, inputs, batch, self._session)

    def _exchange(
        self, step: Step, client: RegionClient, inputs: list[Array], batch: int, session: _Open | None
    ) -> dict[str, Array]:
        """One request and its reply."""
        meter = self.meter
        times = [time.process_time()]
        with _fitting(step.region):
            payload, pending = client.encrypt(inputs, batch, session.secrets if session else None)
        body = pack_request(batch, payload, session.identifier if session else "")
        times.append(time.process_time())
        reply, asked = _core.traveling_bytes(client.reply_size(pending)).data, time.perf_counter()
        self._transport.send(self.bundle.manifest.server, step.region, body, reply)
        meter.wait_s += time.perf_counter() - asked
        times.append(time.process_time())
        with _fitting(step.region):
            outputs = client.decrypt(reply, pending)
            self._judge_shapes(step, outputs, batch)
        times.append(time.process_time())
        encrypt_s, send_s, decrypt_s = np.diff(times)
        meter.encrypt_s += float(encrypt_s)
        meter.send_s += float(send_s)
        meter.decrypt_s += float(decrypt_s)
        meter.requests += 1
        meter.bytes_up += total_bytes(body)
        meter.bytes_down += len(reply)
        for observer in meter.observers:
            observer(step.region)
        return dict(zip(step.outputs, outputs, strict=True))

    def _judge_shapes(self, step: Step, outputs: Sequence[Array], batch: int) -> None:
        """Answers have the shapes that the plan says, as what reads them expects."""
        for name, output in zip(step.outputs, outputs, strict=True):
            expected = self.bundle.manifest.plan.value(name).at(batch)
            if output.shape != expected:
                raise ProtocolError(f"region '{step.region}': '{name}' has shape {output.shape}, the plan says {expected}")


def _ends(bundle: Bundle) -> list[tuple[str, ...]]:
    """For each step of a plan the values that nothing reads after it. Results are kept, and so is what regions with ranges read
    and made."""
    plan = bundle.manifest.plan
    ranged = [step for step in plan.steps if step.kind == "call" and bundle.calls[step.region].has_ranges]
    seen = {*plan.outputs, *(name for step in ranged for name in (*step.inputs, *step.outputs))}
    ends = list[tuple[str, ...]]()
    for step in reversed(plan.steps):
        names = tuple(name for name in (*step.inputs, *step.outputs) if name not in seen)
        seen.update(names)
        ends.append(names)
    return ends[::-1]


@contextmanager
def _fitting(region: str) -> Iterator[None]:
    """A region's document may describe other shapes than its plan: that is found where they meet, whatever the values are."""
    try:
        yield
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ProtocolError(f"region '{region}' does not fit its plan: {error}") from error
