"""Everything that a server sees of a strict run, field by field: `transcript.txt` is the record, and changes with a decision only.

HECOMPILE_UPDATE_GOLDEN=1 writes it anew. `docs/what-the-server-sees.md` explains it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import uvicorn

import hecompile
from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.bfv.messages import FIRST, mode_bytes
from hecompile.backends.bfv.program import region_program
from hecompile.backends.ckks.document import read_document
from hecompile.backends.ckks.keys import TAG_BYTES
from hecompile.backends.ckks.seal import fresh_bytes
from hecompile.backends.registry import backend_of
from hecompile.compiler import Compiled
from hecompile.runtime.server import bind, create_app
from hecompile.runtime.service import load_service
from hecompile.runtime.wire import TAG_HEADER
from tests.attacks.recorder import Recorded, Relay
from tests.backends.ckks.network import compiled
from tests.networks import tiny_inputs
from tests.payloads import sizes

pytestmark = pytest.mark.fhe

GOLDEN = Path(__file__).parent / "transcript.txt"
TOKEN = "correct-horse-battery-staple"


@contextmanager
def recorded(folder: Path) -> Iterator[Relay]:
    """A server of an artifact behind a relay."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(load_service(folder)), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    relay = Relay(listener.getsockname()[1])
    yield relay
    relay.close()
    server.should_exit = True
    thread.join()


def _payload(folder: Path, region: str, payload: bytes, batch: int) -> list[str]:
    """What a request's payload is made of, piece by piece; all of it."""
    half = read_client_half(folder, read_manifest(folder).files, f"client/{region}")
    rows, start = list[str](), 0

    def piece(size: int, what: str) -> None:
        nonlocal start
        rows.append(f"      {size:>7} bytes  {what}")
        start += size

    if backend_of(half).name == "bfv":
        program, mode = region_program(half), FIRST
        if mode_bytes(program):
            mode = payload[0]
            piece(1, "0: brings its seeds" if mode == FIRST else "1: goes on with those of an earlier request")
        for layer in program.body.layers:
            size, parameters = sizes(layer, batch, mode), layer.parameters
            uploads = layer.layout(batch).blocks * layer.layout(batch).uploads
            piece(size.up_words, f"{uploads} x {parameters.dimension} words below q, {parameters.q_bits} bits each")
            if size.up_seeds:
                piece(size.up_seeds, f"{size.up_seeds // 32} seed of 32 random bytes")
    else:
        document = read_document(half)
        piece(TAG_BYTES, "tag of the session's keys: the same in every request of the session")
        row = int.from_bytes(payload[TAG_BYTES : TAG_BYTES + 8], "little")
        piece(8, f"row {row} of {document.body.bins} of the tables over the timestep")
        for _ in range(batch):
            for upload in document.body.uploads:
                ring = document.body.program.ring
                piece(
                    fresh_bytes(ring, upload.level), f"{upload.level + 1} x {ring.dimension} words below their primes, a seed of 64"
                )
    assert start == len(payload)
    return rows


def _told(folder: Path, request: Recorded, names: dict[str, str]) -> list[str]:
    """One request in words; what differs from run to run by its name."""

    def named(text: str) -> str:
        for value, name in names.items():
            text = text.replace(value, name)
        return text

    rows = [f"connection {request.connection}: {named(request.line)}"]
    rows += [f"    {named(header)}" for header in request.headers]
    if region := re.search(r"/regions/(\w+)", request.line):
        fields, payload = request.field()
        rows.append(f"    header: {named(str(fields))}")
        rows += _payload(folder, region[1], payload, int(fields["batch"]))
    elif request.line.startswith("POST"):
        fields, payload = request.field()
        rows.append(f"    header: format {fields['format']}, {len(fields['keys'])} evaluation keys by name and size")
        rows += [f"      {size:>7} bytes  {name}" for name, size in fields["keys"].items()]
        assert sum(fields["keys"].values()) == len(payload)
    else:
        assert request.body == b""
    return rows


def _transcript(folder: Path, calls: list[tuple[int, float]], title: str) -> list[str]:
    """A run of a call per (batch, timestep), and one call after it."""
    with recorded(folder) as relay:
        unet = hecompile.load(folder, f"http://127.0.0.1:{relay.port}", token=TOKEN)
        names = [spec.name for spec in read_manifest(folder).inputs]

        def call(batch: int, t: float) -> None:
            inputs = tiny_inputs(batch) | {"timestep": torch.tensor(t)}
            unet(**{name: inputs[name][:, :1] if name == "sample" and len(names) == 2 else inputs[name] for name in names})

        with unet.run():
            for batch, t in calls:
                call(batch, t)
        call(*calls[0])
        unet.close()
        requests = relay.requests()
    digest = read_manifest(folder).server
    known = {digest: "{artifact}", str(relay.port): "{port}"}
    sessions = {name for request in requests for name in re.findall(r"/sessions/(\w{32})", request.line)}
    known |= dict.fromkeys(sessions, "{session}")
    tags = [header.partition(": ")[2] for request in requests for header in request.headers if header.startswith(TAG_HEADER)]
    assert len({*tags}) == len(tags) == sum(request.line.startswith("POST") for request in requests)
    known |= dict.fromkeys(tags, "{32 random digits}")
    secrets = b"".join(request.body for request in requests)
    assert TOKEN.encode() not in secrets
    assert digest.encode() not in secrets
    rows = [title, "=" * len(title), ""]
    for request in requests:
        rows += [*_told(folder, request, known), ""]
    return rows


@pytest.mark.promise("record")
def test_the_transcript_of_a_strict_run(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    chained = compiled("ckks")[0].artifact
    assert chained is not None
    title = "bfv: a run of three calls, the last with two pictures, and a call after it"
    rows = _transcript(tiny.artifact, [(1, 31.0), (1, 12.0), (2, 3.0)], title)
    rows += _transcript(chained, [(1, 931.5), (1, 12.0)], "ckks: a run of two calls, and a call after it")
    text = "\n".join(rows)
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
