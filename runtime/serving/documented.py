"""What the server's OpenAPI document says of bodies and answers, which FastAPI cannot read off the code."""

from __future__ import annotations

from typing import Any

from hecompile.runtime.wire import TAG_HEADER

__all__ = ["ADDRESS", "ANSWERS", "GREETING", "HEALTH", "OPENED", "REFUSED", "taken"]

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_STATUSES = {
    400: "no HTTP",
    401: "no token, or another one",
    404: "another artifact, region or session",
    405: "another method",
    408: "the body came too slowly",
    410: "the session is forgotten: open a new one",
    413: "a longer body than any well-formed one",
    422: "a malformed body, or one that does not fit",
    503: "too much to do: Retry-After says when to come again",
}

Responses = dict[int | str, dict[str, Any]]

REFUSED: Responses = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}} for status, text in _STATUSES.items()
}
ANSWERS: Responses = REFUSED | {200: {"description": "the backend's answer, as it is", "content": _BYTES}}
OPENED: Responses = REFUSED | {200: {"description": "the session's identifier", "content": _BYTES}}
GREETING: Responses = REFUSED | {200: {"description": "which artifact is served, and in which wire format"}}
HEALTH: Responses = REFUSED | {200: {"description": "alive"}}
ADDRESS = "the artifact's digest, hexadecimal"


def taken(what: str) -> dict[str, Any]:
    """The request's body and tag, for a route that takes bytes."""
    tag = {
        "name": TAG_HEADER,
        "in": "header",
        "required": False,
        "description": "random, and the same in every repetition of a request",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    return {"requestBody": {"description": what, "required": True, "content": _BYTES}, "parameters": [tag]}
