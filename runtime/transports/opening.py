"""Opens the way to a server for everything that loads an artifact, and checks the server's greeting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from hecompile.errors import CompileError, Diagnostic
from hecompile.runtime.greeting import check_greeting
from hecompile.runtime.transports.access import AccessOptions, access_of
from hecompile.runtime.transports.address import parse_url
from hecompile.runtime.transports.base import LocalTransport, Transport
from hecompile.runtime.transports.http import HttpTransport

if TYPE_CHECKING:
    from hecompile.runtime.bundle import Bundle

__all__ = ["open_transport"]

TIMEOUT_S = 120.0


def open_transport(
    bundle: Bundle, server: str | Transport | None, *, credentials: bool = True, **access: Unpack[AccessOptions]
) -> Transport:
    """Return a transport to the server of the other half of an artifact, after checking the server's greeting.

    Args:
        server: a URL, a transport, or None for the server's half in this process.
        credentials: whether certificates, tokens and headers of the environment are sent, see `access_of`.

    Raises:
        CompileError: for a malformed URL, or options that have no effect.
        ProtocolError: if the server serves another artifact or uses another request format.
        ServerGoneError: if it does not answer.
    """
    given = sorted(name for name, value in access.items() if value is not None)
    transport: Transport
    if isinstance(server, str):
        address = parse_url(server)
        if not address.secure and {"verify", "cert"} & set(given):
            raise CompileError(Diagnostic(f"{address}: verify and cert have no effect without TLS", help="use https://"))
        timeout_s = max((call.timeout_s for call in bundle.calls.values()), default=0.0)
        transport = HttpTransport(server, timeout_s=max(TIMEOUT_S, 2 * timeout_s), access=access_of(access, credentials))
    elif given:
        raise CompileError(
            Diagnostic(f"these options have no effect without a URL: {', '.join(given)}", help="give the server's https:// address")
        )
    elif server is None:
        from hecompile.runtime.service import load_service

        transport = LocalTransport(load_service(bundle.folder))
    else:
        transport = server
    try:
        greeting = transport.greet(bundle.manifest.server)
        if greeting is not None:
            check_greeting(greeting, bundle.manifest.server, getattr(transport, "url", "the server"))
    except BaseException:
        if transport is not server:
            transport.close()
        raise
    return transport
