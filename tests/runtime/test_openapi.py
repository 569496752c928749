"""The server is what its OpenAPI document says: examples made from the document, well-formed and not, over real connections."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hecompile.runtime.server import bind, serve_socket
from hecompile.runtime.service import Service
from hecompile.runtime.wire import TAG_HEADER, pack_keys, pack_request
from tests.runtime.keyed import KeyedServer

pytestmark = pytest.mark.slow

DIGEST, REGION, KEY = "d" * 64, "call_01", bytes(range(32))
KEYS = b"".join(pack_keys({"mask": KEY}))
EXAMPLES = 200
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
OPERATIONS = {  # and the statuses that examples must meet, so that they are known to reach what they are for
    ("GET", "/healthz"): {200, 405},
    ("GET", "/readyz"): {200, 405},
    ("GET", "/metrics"): {200, 405},
    ("GET", "/v1/artifacts/{digest}"): {200, 405},
    ("POST", "/v1/artifacts/{digest}/regions/{region}"): {200, 404, 405, 413, 422},
    ("POST", "/v1/artifacts/{digest}/sessions"): {200, 404, 405, 413, 422},
    ("DELETE", "/v1/artifacts/{digest}/sessions/{identifier}"): {200, 404, 405},
}


@pytest.fixture(scope="module")
def service() -> Service:
    return Service("keyed", DIGEST, True, {REGION: KeyedServer()})


@pytest.fixture(scope="module")
def url(service: Service) -> str:
    """A server of an artifact with evaluation keys."""
    listener = bind("127.0.0.1", 0)
    threading.Thread(target=serve_socket, args=(service, listener), kwargs={"openapi": True}, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def schema(url: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture
def session(service: Service, url: str) -> str:
    """A session that is open."""
    return httpx.post(f"{url}/v1/artifacts/{DIGEST}/sessions", content=KEYS).text


def test_every_route_is_tried(schema: BaseSchema) -> None:
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    routes = {(operation.method.upper(), operation.path) for operation in operations}
    assert routes == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_answers_are_as_documented(operation: tuple[str, str], schema: BaseSchema, service: Service, session: str) -> None:
    method, path = operation
    statuses = set()

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases(schema[path][method], service, session))
    def judge(case: Case[Any]) -> None:
        response = case.call()
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)
        if (method, path, response.status_code) == ("POST", "/v1/artifacts/{digest}/sessions", 200):
            service.close_session(DIGEST, response.content.decode())

    judge()
    assert statuses >= OPERATIONS[operation]


@st.composite
def cases(draw: st.DrawFn, operation: APIOperation[Any, Any, Any, Any], service: Service, session: str) -> Case[Any]:
    """A request as the document or its opposite suggests, changed so that it comes nearer to one that is answered."""
    modes = list(GenerationMode) if operation.body else [GenerationMode.POSITIVE]  # addresses cannot be other than text
    case = draw(st.sampled_from(modes).flatmap(lambda mode: operation.as_strategy(generation_mode=mode)))
    known = {"digest": DIGEST, "region": REGION, "identifier": session}
    for name in sorted(set(case.path_parameters) & set(known)):
        if draw(st.integers(0, 3)):
            case.path_parameters[name] = known[name]
    if operation.body and draw(st.integers(0, 3)) > 0:
        case.body = draw(bodies(service, session))
        if draw(st.booleans()):
            case.headers.pop(TAG_HEADER, None)
    if not draw(st.integers(0, 9)):
        case.method = draw(st.sampled_from(["PUT", "PATCH", "TRACE"]))
    return case


@st.composite
def bodies(draw: st.DrawFn, service: Service, session: str) -> bytes:
    """Well-formed bodies, and those with bytes changed, cut or added."""
    request = b"".join(pack_request(1, [KEY, bytes(4)], draw(st.sampled_from([session, session, session, session[::-1], "é"]))))
    body = bytearray(draw(st.sampled_from([request, KEYS])))
    damage = draw(st.sampled_from(["none", "none", "changed", "cut", "long"]))
    if damage == "changed":
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    elif damage == "cut":
        del body[draw(st.integers(0, len(body) - 1)) :]
    elif damage == "long":
        body += bytes(max(service.body_limit, service.key_limit))
    return bytes(body)
