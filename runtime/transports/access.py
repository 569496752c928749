"""Whom a client trusts and what it shows: certificates, a token, headers. From options, else from environment variables."""

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
_OWN = frozenset(  # headers that say how a message is framed, which is the transport's own business
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
    """Keywords of `load` and `EncryptedScheduler`; what is left away or None comes from the environment.

    `verify`: True for the machine's own certificates, or a file or folder of others, or an `ssl.SSLContext`; False trusts anybody.
    `cert`: the client's certificate, or that and the file of its key. `token`: sent as `Authorization: Bearer`. `headers`: more.
    """

    verify: bool | str | Path | ssl.SSLContext | None
    cert: str | Path | tuple[str | Path, str | Path] | None
    token: str | None
    headers: Mapping[str, str] | None


@dataclass(frozen=True)
class Access:
    """The same, decided. Raises `CompileError` when it is made of what cannot be sent."""

    verify: bool | str | Path | ssl.SSLContext = True
    cert: str | Path | tuple[str | Path, str | Path] | None = None
    token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise CompileError(Diagnostic("the token is no token", help="printable ASCII without spaces, on one line"))
        for name, value in self.headers.items():
            if not _NAME.fullmatch(name) or not all(" " <= char <= "~" for char in value) or value != value.strip():
                raise CompileError(Diagnostic(f"the header {name[:60]!r} cannot be sent", help="one line of printable ASCII"))
            if name.lower() in _OWN:
                raise CompileError(Diagnostic(f"the header '{name}' is the transport's own", help="leave it away"))
        names = [name.lower() for name in self.headers]
        if len(set(names)) != len(names):
            raise CompileError("a header is given twice")
        if self.token is not None and "authorization" in names:
            raise CompileError("both a token and the header Authorization are given")

    def sent(self, address: Address) -> dict[str, str]:
        """The headers of every request.

        Raises:
            CompileError: if anything of it would travel in clear to another machine.
        """
        found = dict(self.headers)
        if self.token is not None:
            found["Authorization"] = f"Bearer {self.token}"
        if address.user:
            if any(name.lower() == "authorization" for name in found):
                raise CompileError(f"{address}: both a password and an Authorization are given")
            found["Authorization"] = "Basic " + base64.b64encode(address.user).decode()
        if found and not address.secure and not address.loopback:
            raise CompileError(
                Diagnostic(
                    f"{address}: {', '.join(sorted(found))} would travel in clear, for everybody on the way to read and to use",
                    help="use https://, or a tunnel to loopback",
                )
            )
        return found

    def context(self, address: Address) -> ssl.SSLContext | None:
        """For TLS; None for plain HTTP. Raises `CompileError` for files that are no certificates."""
        if not address.secure:
            return None
        context = self.verify if isinstance(self.verify, ssl.SSLContext) else _trusting(self.verify)
        if self.verify is False:
            LOG.warning("%s: verify=False: whoever answers is believed to be the server", address)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert is not None:
            file, key = self.cert if isinstance(self.cert, tuple) else (self.cert, None)
            try:
                context.load_cert_chain(file, key, _no_password)
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                raise CompileError(f"the certificate {file} or its key cannot be used: {_told(error)}") from error
        return context


def _trusting(verify: bool | str | Path) -> ssl.SSLContext:
    """A context that trusts the machine's own certificates (SSL_CERT_FILE names others), or those of a file or folder."""
    if isinstance(verify, bool):
        return ssl.create_default_context()
    try:
        folder = Path(verify).is_dir()
        return ssl.create_default_context(capath=str(verify)) if folder else ssl.create_default_context(cafile=str(verify))
    except (OSError, ValueError) as error:
        raise CompileError(f"the certificates {verify} cannot be used: {_told(error)}") from error


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _no_password() -> bytes:
    raise ValueError("its key has a password: give a key without one, or verify= an ssl.SSLContext that has it loaded")


def access_of(options: AccessOptions, credentials: bool = True) -> Access:
    """The access of options, and of HECOMPILE_CA, _CERT, _KEY, _TOKEN and _HEADERS (lines of `Name: value`) for what they leave.

    Args:
        credentials: False for an address that the user did not name: then of the environment only HECOMPILE_CA counts, which says
            whom to trust; certificates, tokens and headers are not shown.

    Raises:
        CompileError: for options that are no access.
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
    """`Name: value` lines. Raises `CompileError` for others."""
    found = dict[str, str]()
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise CompileError(Diagnostic("a header without a colon", help="write it as 'Name: value'"))
        if name.strip() in found:
            raise CompileError(f"the header '{name.strip()[:60]}' is given twice")
        found[name.strip()] = value.strip()
    return found
