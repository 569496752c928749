"""Parses the address of a server, an http or https URL, and refuses malformed ones."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes, urlsplit

from hecompile.errors import CompileError, Diagnostic

__all__ = ["Address", "parse_url"]

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """Where requests are sent. `user` is the `user:password` of the URL, which is never printed."""

    scheme: str
    host: str  # a name, or an IPv4 or IPv6 address without brackets
    port: int
    prefix: str  # start of every path, without a slash at its end
    user: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted (https)."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port as in a `Host` header; the port is left out where it is the scheme's default."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether requests stay on this machine."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_url(url: str) -> Address:
    """Parse the URL of a server, such as `https://host:8100`.

    Raises:
        CompileError: for anything else. The message does not repeat what may be a password.
    """
    if not isinstance(url, str) or not url or len(url) > 2000 or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused("", "use up to 2000 ASCII characters without spaces; write hosts with other letters as xn--...")
    try:
        parts = urlsplit(url)
        port, name = parts.port, parts.hostname or ""
    except ValueError as error:
        raise _refused("", "only IPv6 addresses have brackets, and a port is a number up to 65535") from error
    user, at, place = parts.netloc.rpartition("@")
    if "@" in url.removeprefix(f"{url.partition('//')[0]}//{parts.netloc}"):  # a part of a password would be read as the host
        raise _refused("", "write the / ? # @ of a password as %2F %3F %23 %40, and the @ of a path as %40")
    shown = f"'{parts.scheme[:20]}://{place}'"
    if parts.scheme not in _PORTS:
        raise _refused(shown, "it must begin with http:// or https://")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _refused(shown, "a path may follow the host, but not ? or #")
    if not _is_host(name) or port == 0 or place.endswith(":"):
        raise _refused(shown, "after the scheme come a host and a port, as in https://host:8100")
    if at and not user:
        raise _refused(shown, "a user name must come before the @")
    prefix = quote(parts.path.rstrip("/"), safe="/%-._~!$&'()*+,;=:@")
    return Address(parts.scheme, name, port or _PORTS[parts.scheme], prefix, unquote_to_bytes(user))


def _is_host(name: str) -> bool:
    """Return whether this is the name of a host, or an IP address."""
    if ":" not in name:
        return _NAME.fullmatch(name) is not None and all(0 < len(label) <= 63 for label in name.rstrip(".").split("."))
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False


def _refused(shown: str, help: str) -> CompileError:
    """Return the error for a malformed address."""
    return CompileError(Diagnostic(f"{shown or 'the URL'} is not an address of a server", help=help))
