"""`from_pretrained` and `save_pretrained`: what is written, what is believed, and what is shown to whom."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hecompile
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, HecompileError, ProtocolError
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.saving import CONFIG, named_server
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import LocalTransport
from tests.networks import tiny_inputs
from tests.works import works


class Files(SimpleHTTPRequestHandler):
    """A folder over HTTP; keeps the headers of every request."""

    seen: list[dict[str, str]] = []  # noqa: RUF012 - of the whole class, on purpose

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        return None


@pytest.fixture
def artifact(tiny: Compiled) -> Path:
    assert tiny.artifact is not None
    return tiny.artifact


@pytest.fixture
def site(artifact: Path) -> Iterator[str]:
    """The address of a web server with the artifact's files."""
    Files.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(artifact)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def local(artifact: Path) -> LocalTransport:
    return LocalTransport(load_service(artifact))


def digest_of(artifact: Path) -> str:
    return hashlib.sha256((artifact / "manifest.json").read_bytes()).hexdigest()


def test_an_artifact_is_loaded_by_the_name_that_diffusers_has_for_it(artifact: Path) -> None:
    np.testing.assert_array_equal(
        EncryptedUNet.from_pretrained(artifact)(**tiny_inputs()), hecompile.load(artifact)(**tiny_inputs())
    )


def test_a_subfolder_is_loaded(artifact: Path) -> None:
    assert EncryptedUNet.from_pretrained(artifact.parent, subfolder=artifact.name).manifest_name == "Tiny"


def test_how_diffusers_would_read_weights_means_nothing(artifact: Path) -> None:
    assert EncryptedUNet.from_pretrained(artifact, use_safetensors=True, variant="fp16", low_cpu_mem_usage=True).encrypted


def test_an_option_that_nobody_has_is_refused(artifact: Path) -> None:
    with pytest.raises(TypeError, match="gibberish"):
        EncryptedUNet.from_pretrained(artifact, gibberish=1)


def test_what_is_saved_is_the_clients_half_alone(artifact: Path, tmp_path: Path) -> None:
    hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    assert {path.name for path in (tmp_path / "unet").iterdir()} == {"manifest.json", "client", "config.json"}


def test_what_was_saved_computes_the_same(artifact: Path, tmp_path: Path) -> None:
    unet = hecompile.load(artifact)
    unet.save_pretrained(tmp_path / "unet")
    again = EncryptedUNet.from_pretrained(tmp_path / "unet", local(artifact))
    np.testing.assert_array_equal(again(**tiny_inputs()), unet(**tiny_inputs()))


def test_it_is_saved_again_over_itself(artifact: Path, tmp_path: Path) -> None:
    for _ in range(2):
        hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    assert EncryptedUNet.from_pretrained(tmp_path / "unet", local(artifact)).manifest_name == "Tiny"


def test_a_folder_of_somebody_elses_is_left_as_it_was(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "notes.txt").write_text("mine")
    with pytest.raises(CompileError, match=r"config\.json was not written by save_pretrained"):
        hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    assert [path.name for path in (tmp_path / "unet").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["notes.txt", "client/notes.txt"])
def test_a_saved_folder_with_anything_else_is_left_as_it_was(name: str, artifact: Path, tmp_path: Path) -> None:
    hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    (tmp_path / "unet" / name).write_text("mine")
    with pytest.raises(CompileError, match=r"notes\.txt"):
        hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    assert (tmp_path / "unet" / name).read_text() == "mine"


def test_an_artifact_that_changed_since_is_not_saved(artifact: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.he"
    shutil.copytree(artifact, copied)
    unet = hecompile.load(copied)
    region = next((copied / "client").glob("*.json"))
    region.write_bytes(region.read_bytes() + b" ")
    with pytest.raises(ProtocolError, match="changed"):
        unet.save_pretrained(tmp_path / "unet")
    assert not (tmp_path / "unet").exists()


def test_the_clients_half_alone_asks_for_a_server(artifact: Path, tmp_path: Path) -> None:
    hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    with pytest.raises(CompileError, match="name its server"):
        EncryptedUNet.from_pretrained(tmp_path / "unet")


def saved_for(server: object, artifact: Path, folder: Path) -> Path:
    """The client's half, whose configuration names this server."""
    hecompile.load(artifact).save_pretrained(folder)
    document = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(document | {"server": server}))
    return folder


def test_the_server_of_a_saved_model_is_remembered(artifact: Path, tmp_path: Path) -> None:
    assert named_server(saved_for("http://127.0.0.1:9", artifact, tmp_path / "unet")) == "http://127.0.0.1:9"


@pytest.mark.parametrize("server", ["http://user:password@127.0.0.1", "ftp://host", 7, ["http://127.0.0.1"]])
def test_a_server_that_is_no_address_is_refused(server: object, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(HecompileError, match="address"):
        EncryptedUNet.from_pretrained(saved_for(server, artifact, tmp_path / "unet"))


@pytest.mark.promise("named-servers")
def test_a_server_that_only_a_folder_names_is_shown_no_secret(
    artifact: Path, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HECOMPILE_TOKEN", "the-users-own")
    monkeypatch.setenv("HECOMPILE_HEADERS", "X-Key: the-users-too")
    with pytest.raises(ProtocolError):  # it serves files, and is no server of hecompile
        EncryptedUNet.from_pretrained(saved_for(site, artifact, tmp_path / "unet"))
    assert Files.seen
    assert not any("authorization" in headers or "x-key" in headers for headers in Files.seen)


@pytest.mark.promise("named-servers")
def test_a_token_is_not_taken_for_a_server_that_only_a_folder_names(artifact: Path, site: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="token: not sent to a server that only the folder names"):
        EncryptedUNet.from_pretrained(saved_for(site, artifact, tmp_path / "unet"), token="t")
    assert not Files.seen


@pytest.mark.promise("named-servers")
def test_a_folder_has_no_say_in_the_policy(tiny_clear: Compiled, tmp_path: Path) -> None:
    assert tiny_clear.artifact is not None
    hecompile.load(tiny_clear.artifact, policy="simulation").save_pretrained(tmp_path / "unet")
    document = json.loads((tmp_path / "unet" / CONFIG).read_text())
    (tmp_path / "unet" / CONFIG).write_text(json.dumps(document | {"policy": "simulation"}))
    with pytest.raises(ProtocolError, match="simulation"):
        EncryptedUNet.from_pretrained(tmp_path / "unet", local(tiny_clear.artifact))


@works(
    "saving and loading",
    "`EncryptedUNet.from_pretrained(url, server=..., digest=...)`",
    how="from any web server, believed by its digest alone",
)
def test_a_url_is_loaded_by_its_digest(artifact: Path, site: str, tmp_path: Path) -> None:
    unet = EncryptedUNet.from_pretrained(site, local(artifact), digest=digest_of(artifact), cache_dir=tmp_path)
    np.testing.assert_array_equal(unet(**tiny_inputs()), hecompile.load(artifact)(**tiny_inputs()))


def test_what_was_downloaded_is_not_asked_for_again(artifact: Path, site: str, tmp_path: Path) -> None:
    for _ in range(2):
        hecompile.load(site, local(artifact), digest=digest_of(artifact), cache_dir=tmp_path)
    assert len(Files.seen) == 1 + len(list((artifact / "client").iterdir()))


@pytest.mark.promise("digest")
@pytest.mark.parametrize("digest", [None, "", "0" * 63, "0" * 64 + "\n", "0" * 63 + "G"])
def test_nothing_is_loaded_from_a_url_without_a_digest(digest: str | None, artifact: Path, site: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="digest="):
        hecompile.load(site, local(artifact), digest=digest, cache_dir=tmp_path)
    assert not Files.seen


@pytest.mark.promise("digest")
@pytest.mark.parametrize("file", ["manifest.json", "client"])
def test_what_is_not_what_the_digest_says_is_not_kept(file: str, artifact: Path, tmp_path: Path) -> None:
    changed = tmp_path / "site"
    shutil.copytree(artifact, changed)
    path = changed / file if (changed / file).is_file() else sorted((changed / file).iterdir())[0]
    path.write_bytes(path.read_bytes() + b" ")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(changed)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ProtocolError, match="digest"):
            hecompile.load(url, local(artifact), digest=digest_of(artifact), cache_dir=tmp_path / "cache")
    finally:
        server.shutdown()
        server.server_close()
    assert not list((tmp_path / "cache").glob("*"))


def test_a_digest_for_a_folder_is_refused(artifact: Path) -> None:
    with pytest.raises(CompileError, match="digest="):
        hecompile.load(artifact, digest=digest_of(artifact))


def test_a_url_asks_for_a_server(site: str, artifact: Path) -> None:
    with pytest.raises(CompileError, match="name its server"):
        hecompile.load(site, digest=digest_of(artifact))


def test_a_site_of_another_host_than_the_server_is_shown_no_token(artifact: Path, site: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"digest": digest_of(artifact), "cache_dir": tmp_path, "token": "for-the-server"}
    with pytest.raises(HecompileError):  # nothing listens there
        hecompile.load(site, "http://127.0.0.1:9", **options)
    assert Files.seen
    assert not any("authorization" in headers for headers in Files.seen)
