"""The errors with which a server refuses a request."""

from __future__ import annotations

import math

from hecompile.errors import ProtocolError

__all__ = ["GoneError", "RefusalError", "reason_of"]

LONGEST_PAUSE_S = 30
_REASONS = {
    401: "token",
    404: "unknown",
    405: "unknown",
    408: "slow",
    410: "forgotten",
    413: "large",
    422: "malformed",
    503: "busy",
}


class RefusalError(ProtocolError):
    """Raised when a limit of the server refuses a request. `reason` is a word for metrics, `retry_after_s` is when to try again."""

    def __init__(self, message: str, status: int, reason: str, retry_after_s: float = 1.0) -> None:
        self.reason = reason
        self.retry_after_s = max(1, min(LONGEST_PAUSE_S, math.ceil(retry_after_s)))
        super().__init__(message, status=status)


class GoneError(Exception):
    """Raised when the client has closed its connection, so that nobody reads a reply."""


def reason_of(error: ProtocolError) -> str:
    """Return one of a fixed set of words for metrics."""
    return error.reason if isinstance(error, RefusalError) else _REASONS.get(error.status, "malformed")
