"""Identifies the client of a request, against which limits are counted: the holder of a bearer token, else a network address."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from hecompile.errors import CompileError, Diagnostic

__all__ = ["Tokens", "check_proxies", "client_id_of", "is_local", "read_tokens", "spellings"]

_TOKEN = re.compile(r"[!-~]{16,1024}")  # printable ASCII without spaces
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+)):[0-9]+")  # an address with a port, as some proxies forward it
_FILE_LIMIT = 1 << 20
_MOST_TOKENS = 10_000


def client_id_of(client: tuple[str, int] | None) -> str:
    """Return the identity of a client without a token: its IPv4 address, or its IPv6 network of 64 bits.

    Whoever has one IPv6 address of such a network usually has all of them. An IPv4 address that was mapped to IPv6 is mapped back.
    """
    host = client[0] if client else ""
    if with_port := _WITH_PORT.fullmatch(host):
        host = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    address = getattr(address, "ipv4_mapped", None) or address
    if address.version == 6 and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def is_local(client_id: str) -> bool:
    """Return whether a client is on this machine. Such connections can belong to a proxy or to several users."""
    return client_id in ("", "::1") or client_id.startswith("127.")


def check_proxies(addresses: list[str]) -> list[str]:
    """Return the addresses of proxies. Raises `CompileError` for anything but IP addresses, such as host names, which may
    change."""
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise CompileError(
                Diagnostic(f"'{address[:80]}' is not an IP address of a proxy", help="use an IP address such as 127.0.0.1")
            ) from None
    return addresses


def spellings(proxies: Sequence[str]) -> list[str]:
    """Return the addresses of proxies, with IPv4 addresses also as an IPv6 socket shows them."""
    return [*proxies, *(f"::ffff:{proxy}" for proxy in proxies if ":" not in proxy)]


class Tokens:
    """The bearer tokens that a server accepts. They are stored as hashes and compared in constant time."""

    def __init__(self, tokens: list[str]) -> None:
        self._known = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def __len__(self) -> int:
        return len(self._known)

    def client_id(self, authorization: str | None) -> str | None:
        """Return a name for the holder of the token in an `Authorization` header, such as `token 2`; None for headers without a
        known token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        places = [place for place, known in enumerate(self._known) if hmac.compare_digest(known, given)]
        return f"token {places[0] + 1}" if places else None


def read_tokens(file: Path) -> Tokens:
    """Read tokens from a file, one per line. Empty lines and lines that begin with # are skipped.

    Raises:
        CompileError: if the file cannot be read, has no tokens, or malformed ones.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_FILE_LIMIT + 1).decode("ascii")
    except OSError as error:
        raise CompileError(f"the tokens of {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CompileError(f"{file}: tokens must be printable ASCII") from error
    if len(text) > _FILE_LIMIT:
        raise CompileError(f"{file} is too long: a file of tokens may have {_FILE_LIMIT} bytes")
    lines = [line.strip() for line in text.splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(tokens) <= _MOST_TOKENS:
        raise CompileError(f"{file} has {len(tokens)} tokens: it must have between 1 and {_MOST_TOKENS}, one per line")
    for place, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not _TOKEN.fullmatch(line):
            raise CompileError(
                Diagnostic(
                    f"{file}, line {place}: malformed token",
                    help="use 16 or more printable ASCII characters: `openssl rand -hex 32`",
                )
            )
    if len(set(tokens)) != len(tokens):
        raise CompileError(f"{file}: a token occurs twice")
    return Tokens(tokens)
