"""The client's half as a folder of its own, beside the other parts of a pipeline: written by `save_pretrained`.

    manifest.json, client/   as in the artifact; the server's half is not there
    config.json              the class, and the address of the server

A folder may come from anybody. It can name a server, but it has no say in what the client insists on, and the server that it names
is shown no secret of the environment.
"""

from __future__ import annotations

from pathlib import Path

from hecompile.artifact import Manifest
from hecompile.artifact_files import MANIFEST, checked, manifest_bytes, parse_manifest
from hecompile.errors import ProtocolError
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.transports.address import parse_url
from hecompile.untrusted import parse_json, read_file
from hecompile.version import __version__

__all__ = ["CONFIG", "named_server", "save_client_half"]

CONFIG, CONFIG_BYTES = "config.json", 1 << 16
CLASS = "EncryptedUNet"


def save_client_half(bundle: Bundle, folder: Path, server: str | None) -> None:
    """Write the client's half of a loaded artifact, and its server's address, to `folder`.

    Raises:
        CompileError: if something else is there, or the folder cannot be written.
        ProtocolError: if a file of the artifact is missing or changed.
    """
    from hecompile.artifact_writing import to_json, write_folder  # what writes loads where something is written

    manifest = bundle.manifest
    names = [name for name in manifest.files if name.startswith("client/")]

    def fill(new: Path) -> None:
        (new / "client").mkdir()
        data = manifest_bytes(bundle.folder, bundle.folder)
        if parse_manifest(Manifest, data, bundle.folder / MANIFEST) != manifest:
            raise ProtocolError(f"{bundle.folder / MANIFEST}: changed since it was loaded")
        (new / MANIFEST).write_bytes(data)
        for name in names:
            (new / name).write_bytes(checked(bundle.folder, manifest.files, name))
        (new / CONFIG).write_bytes(to_json({"_class_name": CLASS, "hecompile_version": __version__, "server": server}))

    write_folder(folder.expanduser(), fill, _strange)


def _strange(folder: Path) -> str:
    """What keeps a folder from being one that `save_client_half` wrote; empty if nothing does, or nothing is in it."""
    entries = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    if not entries:
        return ""
    if _config(folder).get("_class_name") != CLASS:
        return f"there is no {CONFIG} of ours in it"
    try:
        files = parse_manifest(Manifest, manifest_bytes(folder, folder), folder / MANIFEST).files
    except ProtocolError:
        return f"there is no {MANIFEST} of ours in it"
    strange = sorted(entries - {MANIFEST, CONFIG, "client", *files})
    return f"'{strange[0]}' is not of it" if strange else ""


def _config(folder: Path) -> dict[str, object]:
    """What `config.json` says; nothing where there is none that can be read."""
    try:
        document = parse_json(read_file(folder / CONFIG, CONFIG_BYTES), CONFIG)
    except ProtocolError:
        return {}
    return document if isinstance(document, dict) else {}


def named_server(folder: Path) -> str | None:
    """The server that a saved folder names, if it names one and holds no server's half itself.

    Raises:
        ProtocolError: if what it names is no address, or has a password in it.
    """
    if (folder / "server").exists() or not (folder / CONFIG).exists():
        return None
    server = _config(folder).get("server")
    if server is None:
        return None
    if not isinstance(server, str) or parse_url(server).user:
        raise ProtocolError(f"{folder / CONFIG}: the server is no address without a password")
    return server
