"""Who a request belongs to, where limits are shared out: the holder of a token, else an address."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from hecompile.errors import CompileError, Diagnostic

__all__ = ["Tokens", "is_local", "judge_proxies", "owner_of", "read_tokens", "spellings"]

_TOKEN = re.compile(r"[!-~]{16,1024}")  # printable ASCII without spaces
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+)):[0-9]+")  # as some proxies forward addresses
_FILE_LIMIT = 1 << 20
_MOST_TOKENS = 10_000


def owner_of(client: tuple[str, int] | None) -> str:
    """The address of a connection; of IPv6 the network of 64 bits, since whoever has one has them all.

    An IPv4 address that a socket of both families shows as IPv6 is that IPv4 address.
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


def is_local(owner: str) -> bool:
    """Whether it is this machine, whose connections belong to a proxy or to several users."""
    return owner in ("", "::1") or owner.startswith("127.")


def judge_proxies(addresses: list[str]) -> list[str]:
    """The addresses of proxies. Raises `CompileError` for what is none; names would have to be looked up again and again."""
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise CompileError(Diagnostic(f"'{address[:80]}' is no address of a proxy", help="an IP address: 127.0.0.1")) from None
    return addresses


def spellings(proxies: Sequence[str]) -> list[str]:
    """The addresses of proxies, those of IPv4 also as a socket of both families shows them."""
    return [*proxies, *(f"::ffff:{proxy}" for proxy in proxies if ":" not in proxy)]


class Tokens:
    """The bearer tokens that a server knows. Compared in constant time; kept as hashes."""

    def __init__(self, tokens: list[str]) -> None:
        self._known = [hashlib.sha256(token.encode()).digest() for token in tokens]

    def __len__(self) -> int:
        return len(self._known)

    def owner(self, authorization: str | None) -> str | None:
        """The name of an `Authorization` header's holder, which does not tell the token; None for headers that open nothing."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        places = [place for place, known in enumerate(self._known) if hmac.compare_digest(known, given)]
        return f"token {places[0] + 1}" if places else None


def read_tokens(file: Path) -> Tokens:
    """The tokens of a file, one a line; empty lines and lines that begin with # are left out.

    Raises:
        CompileError: if the file cannot be read, holds none, or what is no token.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_FILE_LIMIT + 1).decode("ascii")
    except OSError as error:
        raise CompileError(f"the tokens of {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CompileError(f"{file}: tokens are printable ASCII") from error
    if len(text) > _FILE_LIMIT:
        raise CompileError(f"{file} is longer than a file of tokens may be, {_FILE_LIMIT} bytes")
    lines = [line.strip() for line in text.splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(tokens) <= _MOST_TOKENS:
        raise CompileError(f"{file} holds {len(tokens)} tokens: between 1 and {_MOST_TOKENS}, one a line, are expected")
    for place, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not _TOKEN.fullmatch(line):
            raise CompileError(
                Diagnostic(f"{file}, line {place}: no token", help="16 or more printable ASCII characters: `openssl rand -hex 32`")
            )
    if len(set(tokens)) != len(tokens):
        raise CompileError(f"{file}: a token stands twice")
    return Tokens(tokens)
