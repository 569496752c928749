"""Descriptions of bodies and replies for the server's OpenAPI document, which FastAPI cannot derive from the code."""

from __future__ import annotations

from typing import Any

from hecompile.runtime.wire import TAG_HEADER

__all__ = ["ADDRESS", "ANSWERS", "GREETING", "HEALTH", "OPENED", "REFUSED", "binary_request"]

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_STATUSES = {
    400: "the request is not HTTP",
    401: "the token is missing or wrong",
    404: "there is no such artifact, region or session",
    405: "the route has another method",
    408: "the body arrived too slowly",
    410: "the session has expired: open a new one",
    413: "the body is longer than any well-formed one",
    422: "the body is malformed, or does not fit",
    503: "the server is busy: Retry-After says when to try again",
}

Responses = dict[int | str, dict[str, Any]]

REFUSED: Responses = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}} for status, text in _STATUSES.items()
}
ANSWERS: Responses = REFUSED | {200: {"description": "the backend's reply", "content": _BYTES}}
OPENED: Responses = REFUSED | {200: {"description": "the session's identifier", "content": _BYTES}}
GREETING: Responses = REFUSED | {200: {"description": "which artifact is served, and in which wire format"}}
HEALTH: Responses = REFUSED | {200: {"description": "alive"}}
ADDRESS = "the artifact's digest, hexadecimal"


def binary_request(what: str) -> dict[str, Any]:
    """Describe the body and the tag of a request, for a route that reads bytes."""
    tag = {
        "name": TAG_HEADER,
        "in": "header",
        "required": False,
        "description": "random, and the same whenever this request is sent again",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    return {"requestBody": {"description": what, "required": True, "content": _BYTES}, "parameters": [tag]}
