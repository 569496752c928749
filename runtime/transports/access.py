"""Which certificates a client trusts and which credentials it sends: from options, else from environment variables."""

from __future__ import annotations

import base64
import logging
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from hecompile.errors import CompileError, Diagnostic
from hecompile.runtime.transports.address import Address

__all__ = ["Access", "AccessOptions", "access_of", "parse_headers"]

LOG = logging.getLogger(__name__)

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN = re.compile(r"[!-~]+")  # printable ASCII without spaces
_OWN = frozenset(  # headers that only the transport may set, since they say how a message is framed
    [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


class AccessOptions(TypedDict, total=False):
    """Keyword arguments of `load` and `EncryptedScheduler`. What is missing or None is taken from the environment.

    `verify`: True trusts the machine's own certificates, a file, a folder or an `ssl.SSLContext` others, and False anybody. `cert`:
    the client's certificate, or a pair of it and the file with its key. `token`: sent as `Authorization: Bearer`. `headers`:
    further headers.
    """

    verify: bool | str | Path | ssl.SSLContext | None
    cert: str | Path | tuple[str | Path, str | Path] | None
    token: str | None
    headers: Mapping[str, str] | None


@dataclass(frozen=True)
class Access:
    """The access options with all defaults filled in. Raises `CompileError` for headers or tokens that cannot be sent."""

    verify: bool | str | Path | ssl.SSLContext = True
    cert: str | Path | tuple[str | Path, str | Path] | None = None
    token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise CompileError(Diagnostic("the token is malformed", help="a token is printable ASCII without spaces, on one line"))
        for name, value in self.headers.items():
            if not _NAME.fullmatch(name) or not all(" " <= char <= "~" for char in value) or value != value.strip():
                raise CompileError(
                    Diagnostic(f"the header {name[:60]!r} cannot be sent", help="a header is one line of printable ASCII")
                )
            if name.lower() in _OWN:
                raise CompileError(Diagnostic(f"the header '{name}' is set by hecompile itself", help="leave it out"))
        names = [name.lower() for name in self.headers]
        if len(set(names)) != len(names):
            raise CompileError("a header is given twice")
        if self.token is not None and "authorization" in names:
            raise CompileError("both a token and the header Authorization are given")

    def sent(self, address: Address) -> dict[str, str]:
        """Return the headers that are sent with every request.

        Raises:
            CompileError: if credentials would be sent to another machine without encryption.
        """
        headers = dict(self.headers)
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if address.user:
            if any(name.lower() == "authorization" for name in headers):
                raise CompileError(f"{address}: both a password and an Authorization are given")
            headers["Authorization"] = "Basic " + base64.b64encode(address.user).decode()
        if headers and not address.secure and not address.loopback:
            raise CompileError(
                Diagnostic(
                    f"{address}: {', '.join(sorted(headers))} would be sent without encryption, for everybody on the way to use",
                    help="use https://, or a tunnel to loopback",
                )
            )
        return headers

    def context(self, address: Address) -> ssl.SSLContext | None:
        """Return the context for TLS; None for plain HTTP. Raises `CompileError` for certificate files that cannot be used."""
        if not address.secure:
            return None
        context = self.verify if isinstance(self.verify, ssl.SSLContext) else _trusting(self.verify)
        if self.verify is False:
            LOG.warning("%s: verify=False: whoever answers is trusted to be the server", address)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert is not None:
            file, key = self.cert if isinstance(self.cert, tuple) else (self.cert, None)
            try:
                context.load_cert_chain(file, key, _no_password)
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                raise CompileError(f"the certificate {file} or its key cannot be used: {_told(error)}") from error
        return context


def _trusting(verify: bool | str | Path) -> ssl.SSLContext:
    """Return a context that trusts the machine's own certificates (SSL_CERT_FILE names others), or those of a file or folder."""
    if isinstance(verify, bool):
        return ssl.create_default_context()
    try:
        folder = Path(verify).is_dir()
        return ssl.create_default_context(capath=str(verify)) if folder else ssl.create_default_context(cafile=str(verify))
    except (OSError, ValueError) as error:
        raise CompileError(f"the certificates {verify} cannot be used: {_told(error)}") from error


def _told(error: Exception) -> str:
    """Return what an error says, in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _no_password() -> bytes:
    raise ValueError("its key has a password: give a key without one, or verify= an ssl.SSLContext that has it loaded")


def access_of(options: AccessOptions, credentials: bool = True) -> Access:
    """Return the access that options describe; what they leave out is read from environment variables.

    The variables are HECOMPILE_CA, HECOMPILE_CERT, HECOMPILE_KEY, HECOMPILE_TOKEN and HECOMPILE_HEADERS (lines of `Name: value`).

    Args:
        credentials: False for an address that the user did not name. Then only HECOMPILE_CA, which says whom to trust, is read:
            certificates, tokens and headers of the environment are not sent.

    Raises:
        CompileError: for options that are malformed.
        TypeError: for options that do not exist.
    """
    unknown = set(options) - set(AccessOptions.__annotations__)
    if unknown:
        raise TypeError(f"unknown options {', '.join(sorted(unknown))}; known: {', '.join(AccessOptions.__annotations__)}")
    verify, cert, token, headers = options.get("verify"), options.get("cert"), options.get("token"), options.get("headers")
    if verify is None:
        verify = os.environ.get("HECOMPILE_CA") or True
    if not credentials:
        return Access(verify, cert, token, headers or {})
    if cert is None and (file := os.environ.get("HECOMPILE_CERT")):
        key = os.environ.get("HECOMPILE_KEY")
        cert = (file, key) if key else file
    if headers is None:
        headers = parse_headers(os.environ.get("HECOMPILE_HEADERS", "").splitlines())
    if token is None and not any(name.lower() == "authorization" for name in headers):
        token = os.environ.get("HECOMPILE_TOKEN") or None
    return Access(verify, cert, token, headers)


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Parse lines of `Name: value` to headers by name. Raises `CompileError` for other lines."""
    headers = dict[str, str]()
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise CompileError(Diagnostic("a header without a colon", help="write it as 'Name: value'"))
        if name.strip() in headers:
            raise CompileError(f"the header '{name.strip()[:60]}' is given twice")
        headers[name.strip()] = value.strip()
    return headers
