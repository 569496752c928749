"""Runs the plan of a compiled model: the client's own regions here, the others at the server, for every backend and transport.

Which messages are sent depends on public data only. A value that is out of range is clipped, and the run goes on, since stopping
would reveal that it was out of range.

What it sends depends on public data only. Values are clipped where they cannot be encrypted, never refused in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from hecompile import _core
from hecompile.backends.region_client import RegionClient, Secrets
from hecompile.buffers import total_bytes
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.plan import Step
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.check_onnx import check_onnx
from hecompile.runtime.transports import Transport
from hecompile.runtime.wire import pack_keys, pack_request
from hecompile.timing import Part, Span

__all__ = ["Executor", "Meter"]


@dataclass
class Meter:
    """What was measured since the model was loaded. Seconds are CPU seconds of all threads of the client's process, except `wait_s`
    and `wall_s`, which are elapsed time."""

    calls: int = 0  # of the model
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    encrypt_s: float = 0.0
    send_s: float = 0.0  # spent in the transport, both ways
    key_bytes: int = 0  # bytes of evaluation keys, sent once per session
    key_s: float = 0.0  # making and sending them
    decrypt_s: float = 0.0
    local_s: float = 0.0  # client regions
    wait_s: float = 0.0  # wall seconds from sending a request to having its reply
    wall_s: float = 0.0
    out_of_range: dict[str, int] = field(default_factory=dict)  # what left its range, a sentence each, and in how many calls
    observers: list[Callable[[str], None]] = field(default_factory=list, repr=False)
    spans: list[Span] = field(default_factory=list, repr=False)  # of the last call, in order; its keys' are not among them

    @property
    def client_s(self) -> float:
        """CPU seconds of the client in all."""
        return self.encrypt_s + self.send_s + self.decrypt_s + self.local_s + self.key_s


@dataclass(frozen=True, repr=False)
class _OpenSession:
    """A session that is open at the server, and the client's secrets that belong to it."""

    identifier: str
    secrets: Secrets


class Executor:
    """Runs the plan of a model, one call at a time.

    Replies to requests that are sent once per run are kept until `forget`, what regions keep during a run until `start_run`, and
    the session with its evaluation keys until `close`.
    """

    def __init__(self, bundle: Bundle, transport: Transport) -> None:
        self.bundle, self.meter = bundle, Meter()
        self._transport = transport
        self._ends = _ends(bundle)
        self._kept: dict[str, dict[str, Array]] = {}
        self._session: _OpenSession | None = None
        self._checked_batches = {bundle.manifest.max_batch}  # batch sizes that the client's regions were checked for

    def forget(self) -> None:
        """Forget the replies to requests that are sent once per run, since the next call may have other conditions."""
        self._kept = {}

    def start_run(self) -> None:
        """Forget everything that was kept from the last run."""
        self.forget()
        for client in self.bundle.calls.values():
            client.start_run()

    def close(self) -> None:
        """Ask the server to forget the evaluation keys, if it has any. A server that does not answer forgets them after a while by
        itself."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(ProtocolError):
                self._transport.close_session(self.bundle.manifest.server, session.identifier)

    def _open_session(self) -> _OpenSession:
        """Make fresh secrets for every region that needs them, and leave their evaluation keys at the server."""
        started, secrets, keys = time.process_time(), Secrets(), dict[str, bytes]()
        for client in self.bundle.calls.values():
            if not set(client.key_sizes()) <= set(keys):
                keys.update(client.evaluation_keys(secrets))
        body = pack_keys(keys)
        session = _OpenSession(self._transport.open_session(self.bundle.manifest.server, body), secrets)
        self.meter.key_bytes += total_bytes(body)
        self.meter.key_s += time.process_time() - started
        return session

    def run(self, inputs: Mapping[str, Array], batch: int) -> list[Array]:
        """Run the model on one batch, which is at most the artifact's largest, and return its outputs.

        Raises:
            ProtocolError: if the server refuses, is gone, or sends a malformed reply.
        """
        self._check_batch(batch)
        started = time.perf_counter()
        self.meter.spans = []
        values = dict(inputs)
        plan = self.bundle.manifest.plan
        for step, ends in zip(plan.steps, self._ends, strict=True):
            if step.kind == "client":
                values.update(self._local(step, values))
            elif step.per_run:
                key = f"{step.region}/{batch}"
                if key not in self._kept:
                    self._kept[key] = self._call(step, values, batch)
                values.update(self._kept[key])
            else:
                values.update(self._call(step, values, batch))
            for name in ends:
                del values[name]
        self._note_out_of_range(values)
        self.meter.calls += 1
        self.meter.wall_s += time.perf_counter() - started
        return [values[name] for name in plan.outputs]

    def _check_batch(self, batch: int) -> None:
        """Check the client's regions for a batch size that is used for the first time, before anything is sent."""
        if batch not in self._checked_batches:
            for name, region in self.bundle.client_models.items():
                check_onnx(region.data, name, batch)
            self._checked_batches.add(batch)

    def _note_out_of_range(self, values: Mapping[str, Array]) -> None:
        """Count what left its range, after the call's last message: no message may wait for what a value is."""
        for step in self.bundle.manifest.plan.steps:
            if step.kind == "call" and self.bundle.calls[step.region].has_ranges:
                inputs, outputs = ([values[name] for name in names] for names in (step.inputs, step.outputs))
                for event in self.bundle.calls[step.region].out_of_range(inputs, outputs):
                    self.meter.out_of_range[event] = self.meter.out_of_range.get(event, 0) + 1

    def _local(self, step: Step, values: Mapping[str, Array]) -> dict[str, Array]:
        """Run one of the client's own regions, and return its outputs by name."""
        began, started = time.perf_counter(), time.process_time()
        results = self.bundle.client_models[step.region].run(list(step.outputs), {name: values[name] for name in step.inputs})
        self.meter.local_s += time.process_time() - started
        self._note_spans(step.region, ("local",), (began, time.perf_counter()))
        return dict(zip(step.outputs, results, strict=True))

    def _call(self, step: Step, values: Mapping[str, Array], batch: int) -> dict[str, Array]:
        """Send a request for a region, in a session if it needs keys, and return its outputs by name."""
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
        self._session = None  # the server forgot the session: make fresh secrets, and encrypt the request again with them
        self._session = self._open_session()
        return self._exchange(step, client, inputs, batch, self._session)

    def _exchange(
        self, step: Step, client: RegionClient, inputs: list[Array], batch: int, session: _OpenSession | None
    ) -> dict[str, Array]:
        """Encrypt one request, send it, decrypt its reply, and return the region's outputs by name."""
        meter = self.meter
        began, times = time.perf_counter(), [time.process_time()]
        with _fitting(step.region):
            payload, pending = client.encrypt(inputs, batch, session.secrets if session else None)
        body = pack_request(batch, payload, session.identifier if session else "")
        times.append(time.process_time())
        reply, asked = _core.traveling_bytes(client.reply_size(pending)).data, time.perf_counter()
        self._transport.send(self.bundle.manifest.server, step.region, body, reply)
        answered = time.perf_counter()
        meter.wait_s += answered - asked
        times.append(time.process_time())
        with _fitting(step.region):
            outputs = client.decrypt(reply, pending)
            self._check_shapes(step, outputs, batch)
        times.append(time.process_time())
        self._note_spans(step.region, ("encrypt", "exchange", "decrypt"), (began, asked, answered, time.perf_counter()))
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

    def _note_spans(self, region: str, parts: Sequence[Part], borders: Sequence[float]) -> None:
        """Note when consecutive parts of a call ran: each from one border to the next."""
        for part, (start, end) in zip(parts, pairwise(borders), strict=True):
            self.meter.spans.append(Span(region, part, start, end))

    def _check_shapes(self, step: Step, outputs: Sequence[Array], batch: int) -> None:
        """Raise `ProtocolError` unless the decrypted outputs have the shapes that the plan states."""
        for name, output in zip(step.outputs, outputs, strict=True):
            expected = self.bundle.manifest.plan.value(name).at(batch)
            if output.shape != expected:
                raise ProtocolError(f"region '{step.region}': '{name}' has shape {output.shape}, the plan says {expected}")


def _ends(bundle: Bundle) -> list[tuple[str, ...]]:
    """Return, for each step of the plan, the names of values that no later step reads. Model outputs are never among them, nor the
    inputs and outputs of regions whose ranges are checked after the call."""
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
    """Turn errors that mean a region's file and the plan state different shapes into `ProtocolError`."""
    try:
        yield
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ProtocolError(f"region '{region}' does not fit its plan: {error}") from error
