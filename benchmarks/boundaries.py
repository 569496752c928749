"""Encrypted regions against the interpreted slot program: the error of every output over its predicted bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half, read_server_half
from hecompile.backends.ckks.backend import CkksClearBackend
from hecompile.backends.ckks.document import read_document, read_tables
from hecompile.backends.ckks.noise import SIGMAS, predict
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.registry import backend_of
from hecompile.buffers import Buffer
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.runtime.bundle import Bundle

__all__ = ["Boundary", "boundaries", "error_ratios", "watched"]

FLOAT32 = 2.0**-23  # outputs are float32: a rounding of each side


def error_ratios(halves: tuple[ClientHalf, ServerHalf], inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
    """For each output of an encrypted call at batch one: its largest error against the clear slot program over its bound."""
    document = read_document(halves[1])
    clear = CkksClearBackend()
    client, server = clear.load_client(halves[0]), clear.load_server(halves[1])
    payload, pending = client.encrypt(inputs, 1)
    wanted = client.decrypt(server.evaluate(b"".join(payload), 1), pending)
    t = 0.0 if document.body.timestep is None else float(inputs[document.inputs.index(document.body.timestep)])
    deviations = predict(document.body.program, read_tables(halves[1], document), document.body.row(t))
    ratios = []
    for result, got, want in zip(document.body.results, outputs, wanted, strict=True):
        slots = document.body.grid.slots(result.shape)
        bound = SIGMAS * deviations[result.output][slots].reshape(result.shape) + FLOAT32 * np.abs(want)
        ratios.append(float((np.abs(got.astype(np.float64) - want) / bound).max()))
    return ratios


class _Witness(RegionClient):
    """A region's client that remembers what it encrypted and what came back."""

    def __init__(self, inner: RegionClient) -> None:
        self.inputs, self.outputs, self._inner = inner.inputs, inner.outputs, inner
        self.calls: list[tuple[list[Array], list[Array]]] = []

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self.calls.append(([np.array(value) for value in values], []))
        return self._inner.encrypt(values, batch, secrets)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        outputs = self._inner.decrypt(reply, pending)
        self.calls[-1][1].extend(outputs)
        return outputs

    def key_sizes(self) -> Mapping[str, int]:
        return self._inner.key_sizes()

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        return self._inner.evaluation_keys(secrets)

    def request_bytes(self, batch: int) -> int:
        return self._inner.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._inner.reply_bytes(batch)


def watched(bundle: Bundle) -> tuple[Bundle, dict[str, Any]]:
    """The bundle with witnesses of its regions that are slot programs, and those by region."""
    manifest = bundle.manifest
    chained = [
        region
        for region in bundle.calls
        if backend_of(read_client_half(bundle.folder, manifest.files, f"client/{region}")).name == "ckks"
    ]
    witnesses = {region: _Witness(bundle.calls[region]) for region in chained}
    return replace(bundle, calls={**bundle.calls, **witnesses}), dict(witnesses)


@dataclass(frozen=True)
class Boundary:
    """A region's outputs over the calls of a run. `worst` is the largest error over its bound: one or less if that holds."""

    region: str
    calls: int
    outputs: int
    worst: float


def boundaries(folder: Path, witnesses: Mapping[str, Any], last: int) -> list[Boundary]:
    """What the witnesses saw in their last calls, region by region."""
    files, rows = read_manifest(folder).files, []
    for region, witness in sorted(witnesses.items()):
        halves = read_client_half(folder, files, f"client/{region}"), read_server_half(folder, files, f"server/{region}")
        calls = witness.calls[-last:]
        ratios = [error_ratios(halves, inputs, outputs) for inputs, outputs in calls]
        rows.append(Boundary(region, len(calls), len(ratios[0]), max(map(max, ratios))))
    return rows
