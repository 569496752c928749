"""The greeting: what a server tells a client that is being loaded, so that the client can check that both halves belong
together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hecompile.errors import ProtocolError
from hecompile.runtime.wire import FORMAT
from hecompile.untrusted import parse_json

__all__ = ["GREETING_LIMIT", "Greeting", "check_greeting", "parse_greeting"]

GREETING_LIMIT = 4096  # bytes
_LONGEST = 200  # characters of a field
_KINDS: dict[str, type] = {"artifact": str, "name": str, "version": str, "wire": int, "encrypted": bool}


@dataclass(frozen=True)
class Greeting:
    """What a server tells about itself. All of it is public."""

    artifact: str  # sha256 of the server's half, in hexadecimal
    name: str
    version: str  # of hecompile at the server
    wire: int  # version of the request format
    encrypted: bool

    def document(self) -> dict[str, object]:
        """Return the greeting as a dictionary, to be sent as JSON."""
        return asdict(self)


def parse_greeting(data: bytes, server: str) -> Greeting:
    """Parse the greeting that a server sent, ignoring unknown fields.

    Raises:
        ProtocolError: naming `server`, for anything that is not a greeting.
    """
    document = parse_json(data, f"the greeting of {server}")
    values: dict[str, Any] = {name: document.get(name) for name in _KINDS} if isinstance(document, dict) else {}
    if not values or any(type(values[name]) is not kind for name, kind in _KINDS.items()):
        raise ProtocolError(f"{server} is not a hecompile server: its greeting lacks the fields {', '.join(_KINDS)}")
    if any(len(text) > _LONGEST or not text.isprintable() for text in values.values() if isinstance(text, str)):
        raise ProtocolError(f"the greeting of {server} contains text that is too long or not printable")
    return Greeting(**values)


def check_greeting(greeting: Greeting, digest: str, server: str) -> None:
    """Raise `ProtocolError` unless the server serves the other half of the client's artifact, in the request format that the client
    speaks."""
    if greeting.wire != FORMAT:
        raise ProtocolError(
            f"{server} (hecompile {greeting.version}) speaks wire format {greeting.wire}, this client {FORMAT}: "
            "use the same version of hecompile on both sides"
        )
    if greeting.artifact != digest:
        raise ProtocolError(
            f"{server} serves artifact {greeting.artifact[:12]} ('{greeting.name}'), this client's is {digest[:12]}: "
            "load the client half of the artifact that is served, or start `hecompile serve` with this one",
            status=404,
        )
