"""Downloads the client's half of an artifact from a URL, checks it against a digest and keeps it in a cache."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hecompile.artifact import Manifest
from hecompile.artifact_files import MANIFEST, MANIFEST_BYTES, file_digest, parse_manifest
from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.runtime.transports.access import Access
from hecompile.runtime.transports.address import parse_url

__all__ = ["downloaded", "is_url"]

TIMEOUT_S = 60.0  # without receiving a byte
BLOCK = 1 << 20
MOST_BYTES = 1 << 31  # largest size of one file
_DIGEST = re.compile("[0-9a-f]{64}")


def is_url(place: str | Path) -> bool:
    """Return whether this is a web address, not a folder."""
    return isinstance(place, str) and place.startswith(("http://", "https://"))


def downloaded(url: str, expected: str | None, cache: str | Path | None, access: Access) -> Path:
    """Return a folder with the manifest and client's half from `url`, downloaded unless it is in the cache already.

    Args:
        url: a folder on any web server, with `manifest.json` and `client/` in it.
        expected: sha256 of `manifest.json`, in hexadecimal. The manifest lists the sha256 of every other file.
        cache: folder for downloads; HECOMPILE_CACHE or `~/.cache/hecompile` by default.
        access: certificates to trust and credentials to send, as for a server.

    Raises:
        CompileError: for a digest that is missing or malformed, or a cache that cannot be written.
        ProtocolError: if a file does not match its digest.
    """
    from hecompile.artifact_writing import write_folder  # imported here, since most callers write nothing

    if expected is None or not _DIGEST.fullmatch(expected):
        raise CompileError(
            Diagnostic(
                f"{parse_url(url)}: loading from a URL needs digest=, the 64 hexadecimal digits of the manifest's sha256",
                help="ask whoever compiled it: `sha256sum manifest.json`",
            )
        )
    root = Path(cache or os.environ.get("HECOMPILE_CACHE") or Path("~/.cache/hecompile")).expanduser()
    folder = root / expected
    if not (folder / MANIFEST).is_file() or file_digest(folder / MANIFEST) != expected:
        site = _Site(url, access)
        write_folder(folder, lambda new: site.fill(new, expected), lambda _: "")
    return folder


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error, since it could send our headers to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class _Site:
    """The folder at a URL, from which files are downloaded."""

    def __init__(self, url: str, access: Access) -> None:
        self._address = parse_url(url)
        self._headers = access.sent(self._address)
        context = access.context(self._address) or ssl.create_default_context()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), _NoRedirects(), urllib.request.HTTPSHandler(context=context)
        )

    def fill(self, folder: Path, expected: str) -> None:
        """Download the manifest and the client's files into `folder`. Raises `ProtocolError` if one does not match its digest."""
        self._write(MANIFEST, folder, expected, MANIFEST_BYTES)
        manifest = parse_manifest(Manifest, (folder / MANIFEST).read_bytes(), folder / MANIFEST)
        (folder / "client").mkdir()
        for name, checksum in manifest.files.items():
            if name.startswith("client/"):
                self._write(name, folder, checksum, MOST_BYTES)

    def _write(self, name: str, folder: Path, expected: str, most_bytes: int) -> None:
        """Download one file of at most `most_bytes` bytes, block by block. Raises `ProtocolError` if its digest is not
        `expected`."""
        place, checksum, size = f"{self._address}/{name}", hashlib.sha256(), 0
        request = urllib.request.Request(place, headers=self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as reply, (folder / name).open("xb") as file:
                while block := reply.read(BLOCK):
                    size += len(block)
                    if size > most_bytes:
                        raise ProtocolError(f"{place} has more than {most_bytes} bytes")
                    checksum.update(block)
                    file.write(block)
        except urllib.error.HTTPError as error:
            raise ProtocolError(f"{place}: {error.code} {error.reason}", status=error.code) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise ProtocolError(f"{place}: {getattr(error, 'reason', None) or error}", status=503) from None
        if checksum.hexdigest() != expected:
            raise ProtocolError(f"{place}: the file does not match its digest and is not used")
