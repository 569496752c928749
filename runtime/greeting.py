"""What a server says of itself when a client is loaded: which artifact it serves, and in which format it is spoken to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hecompile.errors import ProtocolError
from hecompile.runtime.wire import FORMAT
from hecompile.untrusted import parse_json

__all__ = ["GREETING_LIMIT", "Greeting", "judge_greeting", "parse_greeting"]

GREETING_LIMIT = 4096  # bytes
_LONGEST = 200  # characters of a field
_KINDS: dict[str, type] = {"artifact": str, "name": str, "version": str, "wire": int, "encrypted": bool}


@dataclass(frozen=True)
class Greeting:
    """All of it public."""

    artifact: str  # digest of the server's half
    name: str
    version: str  # of the server's hecompile
    wire: int  # format of requests
    encrypted: bool

    def document(self) -> dict[str, object]:
        """As JSON on the wire."""
        return asdict(self)


def parse_greeting(data: bytes, server: str) -> Greeting:
    """The greeting that a server sent; fields that are not known are left away.

    Raises:
        ProtocolError: naming `server`, for anything else.
    """
    found = parse_json(data, f"the greeting of {server}")
    values: dict[str, Any] = {name: found.get(name) for name in _KINDS} if isinstance(found, dict) else {}
    if not values or any(type(values[name]) is not kind for name, kind in _KINDS.items()):
        raise ProtocolError(f"{server} does not greet as a hecompile server does, with the fields {', '.join(_KINDS)}")
    if any(len(text) > _LONGEST or not text.isprintable() for text in values.values() if isinstance(text, str)):
        raise ProtocolError(f"{server} greets with text that cannot be shown")
    return Greeting(**values)


def judge_greeting(greeting: Greeting, digest: str, server: str) -> None:
    """Raise `ProtocolError` unless the server serves the other half of the client's artifact, in the client's format."""
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
