"""Opening the way to a server for everything that loads an artifact: what was meant is made, greeted and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from hecompile.errors import CompileError, Diagnostic
from hecompile.runtime.greeting import judge_greeting
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
    """The transport of a URL, of the server's half in this process (None), or the one that is given; its server was greeted.

    `credentials`: whether certificates, tokens and headers of the environment are shown to it, as `access_of` has it.

    Raises:
        CompileError: for a URL that is none, or options that mean nothing there.
        ProtocolError: if the server serves another artifact or speaks another format.
        ServerGoneError: if it does not answer.
    """
    given = sorted(name for name, value in access.items() if value is not None)
    transport: Transport
    if isinstance(server, str):
        address = parse_url(server)
        if not address.secure and {"verify", "cert"} & set(given):
            raise CompileError(Diagnostic(f"{address}: verify and cert mean nothing without TLS", help="use https://"))
        patience_s = max((call.patience_s for call in bundle.calls.values()), default=0.0)
        transport = HttpTransport(server, timeout_s=max(TIMEOUT_S, 2 * patience_s), access=access_of(access, credentials))
    elif given:
        raise CompileError(Diagnostic(f"{', '.join(given)} mean nothing without a URL", help="give the server's https:// address"))
    elif server is None:
        from hecompile.runtime.service import load_service

        transport = LocalTransport(load_service(bundle.folder))
    else:
        transport = server
    try:
        greeting = transport.greet(bundle.manifest.server)
        if greeting is not None:
            judge_greeting(greeting, bundle.manifest.server, getattr(transport, "url", "the server"))
    except BaseException:
        if transport is not server:
            transport.close()
        raise
    return transport
