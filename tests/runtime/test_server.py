"""The HTTP server: good requests answered, bad ones refused with a reason, never a 500."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.runtime.server import create_app
from hecompile.runtime.service import Service, load_service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.wire import pack_request
from tests.payloads import encrypt_whole
from tests.programs import program_of


@pytest.fixture(scope="module")
def service(tiny: Compiled) -> Service:
    assert tiny.artifact is not None
    return load_service(tiny.artifact)


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service), raise_server_exceptions=True)


def url(service: Service, region: str = "call_01") -> str:
    return f"/v1/artifacts/{service.digest}/regions/{region}"


def good_body(tiny: Compiled) -> bytes:
    import numpy as np

    region = program_of(tiny).calls["call_01"]
    assert region.lowered is not None
    payload, _ = encrypt_whole(backend("bfv").load_client(region.lowered.client), [np.ones((1, 2, 4, 4), np.float32)], 1)
    return b"".join(pack_request(1, [payload]))


def test_health(client: TestClient, service: Service) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "name": "Tiny", "artifact": service.digest, "encrypted": True}


def test_a_good_request_is_answered(client: TestClient, service: Service, tiny: Compiled) -> None:
    response = client.post(url(service), content=good_body(tiny))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"\x00", 422),
        (b"\xff\xff\xff", 422),
        (b"".join(pack_request(1, [b"short"])), 422),
        (b"".join(pack_request(99, [])), 422),
    ],
)
def test_malformed_requests(client: TestClient, service: Service, body: bytes, status: int) -> None:
    response = client.post(url(service), content=body)
    assert response.status_code == status
    assert response.json()["error"]


def test_another_artifact_or_region(client: TestClient, service: Service) -> None:
    other = client.post(f"/v1/artifacts/{'0' * 64}/regions/call_01", content=b"")
    assert (other.status_code, service.digest[:12] in other.json()["error"]) == (404, True)
    assert client.post(url(service, "call_99"), content=b"").status_code == 404


def test_oversized_requests_are_given_up_early(client: TestClient, service: Service) -> None:
    assert client.post(url(service), content=bytes(service.body_limit + 1)).status_code == 413

    def stream() -> object:
        for _ in range(service.body_limit // 1000 + 2):
            yield bytes(1000)

    assert client.post(url(service), content=stream()).status_code == 413  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bytes_make_a_500(client: TestClient, service: Service, tiny: Compiled, data: st.DataObject) -> None:
    """A good request with bytes changed, cut or added."""
    body = bytearray(_BODY.setdefault("good", good_body(tiny)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    kept = bytes(body[:cut]) if data.draw(st.booleans()) else bytes(body) + bytes(data.draw(st.integers(0, 9)))
    assert client.post(url(service), content=kept).status_code in (200, 422)


_BODY: dict[str, bytes] = {}


def test_a_request_that_never_ends_times_out(service: Service) -> None:
    import asyncio

    app = create_app(service, Limits(grace_s=0.05))

    async def call() -> int:
        status: list[int] = []

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.sleep(10)
            return {}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": url(service), "headers": [], "query_string": b"", "http_version": "1.1"}
        await app(
            scope | {"raw_path": url(service).encode(), "server": ("x", 1), "client": ("y", 2), "scheme": "http"}, receive, send
        )
        return status[0]

    assert asyncio.run(call()) == 408
