"""Saves the client's half as a folder among the other parts of a pipeline: what `save_pretrained` writes.

    manifest.json, client/   as in the artifact; the server's half is not there
    config.json              the class, and the address of the server

A saved folder may come from anybody. It can name a server, but it has no influence on what the client insists on, and the named
server gets no credentials from the environment.
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
    from hecompile.artifact_writing import to_json, write_folder  # imported here, since most callers write nothing

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
    """Return why `save_client_half` did not write this folder; an empty text if it did, or if the folder is empty."""
    entries = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    if not entries:
        return ""
    if _config(folder).get("_class_name") != CLASS:
        return f"its {CONFIG} was not written by save_pretrained"
    try:
        files = parse_manifest(Manifest, manifest_bytes(folder, folder), folder / MANIFEST).files
    except ProtocolError:
        return f"its {MANIFEST} was not written by save_pretrained"
    strange = sorted(entries - {MANIFEST, CONFIG, "client", *files})
    return f"'{strange[0]}' is not part of it" if strange else ""


def _config(folder: Path) -> dict[str, object]:
    """Return the contents of `config.json`; an empty dictionary where there is none that can be read."""
    try:
        document = parse_json(read_file(folder / CONFIG, CONFIG_BYTES), CONFIG)
    except ProtocolError:
        return {}
    return document if isinstance(document, dict) else {}


def named_server(folder: Path) -> str | None:
    """Return the address that a saved folder names for its server; None if it names none, or holds a server's half itself.

    Raises:
        ProtocolError: if the address is malformed, or contains a password.
    """
    if (folder / "server").exists() or not (folder / CONFIG).exists():
        return None
    server = _config(folder).get("server")
    if server is None:
        return None
    if not isinstance(server, str) or parse_url(server).user:
        raise ProtocolError(f"{folder / CONFIG}: the server must be an address without a password")
    return server
