"""The server of `ckks` regions: it can neither make nor hold a secret key, and loads neither a training framework nor TenSEAL."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.artifact_server import read_server
from hecompile.backends.ckks.document import read_document
from hecompile.backends.region_client import Secrets
from hecompile.backends.region_server import Session
from hecompile.backends.registry import backend_of
from hecompile.runtime.wire import pack_keys, pack_request
from tests.backends.ckks.network import compiled
from tests.payloads import encrypt_whole


def test_the_server_imports_nothing_that_makes_keys() -> None:
    code = (
        "import sys; from hecompile.backends.registry import backend; from hecompile.backends.ckks import document, server; "
        "backend('ckks'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hecompile.backends.ckks.seal_engine" in loaded
    assert not {"hecompile.backends.ckks.secret", "hecompile.backends.ckks.client", "torch", "diffusers"} & set(loaded)


SERVES = """
import sys
from pathlib import Path
from hecompile.runtime.service import load_service
folder, region, keys, body, reply = sys.argv[1:]
service = load_service(Path(folder))
session = service.open_session(service.digest, Path(keys).read_bytes())
request = Path(body).read_bytes().replace(b"?" * 32, session.encode())
Path(reply).write_bytes(service.answer(service.digest, region, request))
print(*sys.modules, *{Path(row.split()[-1]).name for row in open("/proc/self/maps")})
"""


@pytest.mark.fhe
@pytest.mark.promise("reading-library")
def test_the_server_reads_keys_and_requests_without_tenseal(tmp_path: Path) -> None:
    """A process that opened a session and answered has loaded seal-python's SEAL only, and its answer decrypts."""
    folder = compiled("ckks")[0].artifact
    assert folder is not None
    (name,) = read_server(folder)[0].regions
    half = read_client_half(folder, read_manifest(folder).files, f"client/{name}")
    client, secrets = backend_of(half).load_client(half), Secrets()
    files = [tmp_path / file for file in ("keys", "body", "reply")]
    files[0].write_bytes(b"".join(pack_keys(client.evaluation_keys(secrets))))
    shapes = {piece.input: (1, *piece.shape) for upload in read_document(half).body.uploads for piece in upload.pieces}
    values = [np.zeros(shapes.get(source, ()), np.float32) for source in client.inputs]
    payload, pending = encrypt_whole(client, values, 1, secrets)
    files[1].write_bytes(b"".join(pack_request(1, [payload], "?" * 32)))
    command = [sys.executable, "-c", SERVES, str(folder), name, *map(str, files)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"seal", "hecompile.backends.ckks.seal_engine"} <= set(loaded)
    assert not [module for module in loaded if "tenseal" in module]
    assert all(np.isfinite(output).all() for output in client.decrypt(files[2].read_bytes(), pending))


@pytest.mark.promise("no-key-at-the-server")
def test_a_session_has_no_field_for_a_secret() -> None:
    assert [field.name for field in fields(Session)] == ["identifier", "keys"]
    assert repr(Session("f" * 32, {"relin": b"key"})) == "Session()"
