"""How a request's bytes reach a server: within this process, or over HTTP. The bytes are the same either way."""

from hecompile.runtime.transports.access import Access, AccessOptions
from hecompile.runtime.transports.base import LocalTransport, ServerGoneError, Transport
from hecompile.runtime.transports.http import HttpTransport
from hecompile.runtime.transports.opening import open_transport

__all__ = ["Access", "AccessOptions", "HttpTransport", "LocalTransport", "ServerGoneError", "Transport", "open_transport"]
