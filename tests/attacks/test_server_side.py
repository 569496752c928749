"""The server holds no secret key: not in its bundle, not in its process, not in its types."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hecompile
from hecompile import _core
from hecompile.backends.bfv.rings import prime
from hecompile.backends.bfv.server import BfvServer
from hecompile.buffers import Buffer
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.service import Service
from hecompile.runtime.transports import LocalTransport
from tests.attacks.loaded import text_of

ROOT = Path(hecompile.__file__).parent


@pytest.mark.promise("no-key-at-the-server")
def test_the_servers_modules_import_nothing_that_makes_keys() -> None:
    """No module that the server's process loads knows the name."""
    code = "import sys, hecompile.runtime.server, hecompile.backends.bfv.server; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hecompile.backends.bfv.client" not in loaded
    for name in loaded:
        if name.startswith("hecompile."):
            tree = ast.parse(text_of(name.removeprefix("hecompile.")))
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert not {"SecretKey", "encrypt", "decrypt"} & (names | called), name  # of the core, whose library holds both halves


@pytest.mark.promise("no-key-at-the-server")
@pytest.mark.parametrize("kind", [Service, BfvServer])
def test_the_servers_types_have_no_field_for_a_key(kind: type) -> None:
    text = inspect.getsource(kind)
    fields = set(getattr(kind, "__dataclass_fields__", {})) | {
        node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert not [name for name in fields if "key" in name.lower() or "secret" in name.lower()]


@pytest.mark.promise("no-key-at-the-server")
def test_the_server_bundle_is_weights_and_public_parameters(digits: Path) -> None:
    for path in (digits / "server").iterdir():
        assert path.suffix in (".json", ".safetensors")
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            assert all(name.endswith(".weights") and tensor.dtype == np.int8 for name, tensor in load_file(path).items())
        else:
            words = json.dumps(json.loads(path.read_text())).lower()
            assert "secret" not in words
            assert "scale" not in words


def test_keys_hide_their_text() -> None:
    taps = np.zeros((1, 2), np.int32)
    layout = _core.make_layout(2048, prime(48, 24), 24, 1, (1, 2048, 1), (1, 2048, 1), taps, (1, 2048, 1, 1), (0, 0))
    out = bytearray(layout.up_bytes + _core.SEED_BYTES)
    request = _core.encrypt([layout], [np.zeros((1, 1, 2048), np.int64)], [b""], out, [0])
    assert str(request) == repr(request) == "Request(hidden)"
    readers: list[Callable[[Any], object]] = [vars, pickle.dumps, copy.copy, copy.deepcopy, bytes, list]
    for read in readers:
        with pytest.raises((TypeError, AttributeError)):
            read(request)
    assert {name for name in dir(request) if not name.startswith("_")} == {"brings_seeds", "scales"}


@pytest.mark.promise("unrelated")
def test_every_request_has_a_fresh_key(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old answer, replayed to a later request, decrypts to noise; within a run and beyond."""
    from hecompile.runtime.service import load_service

    service, replies = load_service(digits), dict[str, bytes]()

    class Replaying(LocalTransport):
        def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
            super().send(digest, region, body, reply)
            memoryview(reply)[:] = replies.setdefault(region, bytes(reply))

    unet = EncryptedUNet(load_bundle(digits), Replaying(service))
    sample, label = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([2])
    first = unet(sample, 500.0, class_labels=label).sample
    replayed = unet(sample, 600.0, class_labels=label).sample
    assert (first - replayed).abs().max() > 0.1 * first.abs().max()
    replies.clear()
    first = unet(sample, 900.0, class_labels=label).sample
    replies.clear()
    second = unet(sample, 900.0, class_labels=label).sample  # answered by `b` alone
    replayed = unet(sample, 900.0, class_labels=label).sample
    assert torch.equal(first, second)
    assert (second - replayed).abs().max() > 0.1 * first.abs().max()


@pytest.mark.promise("no-key-at-the-server")
@pytest.mark.fhe
def test_the_servers_memory_holds_no_latent(digits: Path) -> None:
    """The whole readable memory of a server process after a run, searched for the latent, the prediction and the key's client."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from hecompile.cli import main; main()", "serve", str(digits), "--port", "0", "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        unet = hecompile.load(digits, url)
        sample = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(11))
        result = unet(sample, 500.0, class_labels=torch.tensor([7])).sample
        unet.close()
        memory = readable_memory(process.pid)
        assert len(memory) > 10 << 20  # it was read
        assert b"conv_in" in memory
        for tensor in (sample, result):
            for row in tensor.numpy().reshape(8, 8):
                assert row.astype(np.float32).tobytes() not in memory
                assert row.astype(np.float64).tobytes() not in memory
    finally:
        process.terminate()
        process.wait()


def readable_memory(pid: int) -> bytes:
    """All anonymous readable memory of a process of ours."""
    pieces = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            if not fields[1].startswith("rw") or (len(fields) > 5 and fields[5] == "[vvar]"):
                continue
            start, stop = (int(part, 16) for part in fields[0].split("-"))
            try:
                memory.seek(start)
                pieces.append(memory.read(stop - start))
            except (OSError, ValueError, OverflowError):
                continue
    return b"".join(pieces)


@pytest.mark.fhe
def test_the_server_process_loads_neither_torch_nor_diffusers(digits: Path) -> None:
    code = (
        "import sys, pathlib\nfrom hecompile.runtime.server import create_app\nfrom hecompile.runtime.service import load_service\n"
        "create_app(load_service(pathlib.Path(sys.argv[1])))\nprint(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code, str(digits)], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "diffusers", "hecompile.runtime.client", "hecompile.backends.bfv.client"} & set(loaded)
