"""Sessions: evaluation keys are taken within limits, found by an unguessable name, and forgotten in time."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from hecompile.artifact import Manifest
from hecompile.artifact_files import FORMAT
from hecompile.errors import ProtocolError
from hecompile.ir.plan import Plan, Step, Value
from hecompile.runtime.bundle import Bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.server import create_app
from hecompile.runtime.service import Service
from hecompile.runtime.sessions import SessionLimits, SessionStore
from hecompile.runtime.transports import LocalTransport
from hecompile.runtime.wire import pack_keys, pack_request
from tests.runtime.keyed import KeyedClient, KeyedServer

DIGEST = "d" * 64
KEYS = b"".join(pack_keys({"mask": bytes(32)}))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Service:
    return Service("keyed", DIGEST, True, {"call_01": KeyedServer()}, SessionStore(SessionLimits(2, 500, 10.0), clock))


@pytest.fixture
def http(service: Service) -> TestClient:
    return TestClient(create_app(service))


def executor(service: Service) -> tuple[Executor, KeyedClient]:
    value = Value("x", ("B",), "float32", True)
    plan = Plan(("x",), ("y",), (Step("call", "call_01", ("x",), ("y",)),), (value, Value("y", ("B",), "float32", True)))
    manifest = Manifest(FORMAT, "keyed", "strict", "bfv", True, 128, 3, (), (), plan, DIGEST, {}, {})
    client = KeyedClient()
    return Executor(Bundle(manifest, {}, {"call_01": client}, Path()), LocalTransport(service)), client


def test_keys_are_sent_once(service: Service) -> None:
    runner, client = executor(service)
    for number in (1.0, 2.0):
        assert runner.run({"x": np.array([number], np.float32)}, 1)[0] == [number]
    assert (client.made, len(service.sessions), runner.meter.requests) == (1, 1, 2)
    assert 32 < runner.meter.key_bytes < 100
    runner.close()
    assert len(service.sessions) == 0
    runner.close()


def test_a_forgotten_session_is_opened_again_once_with_fresh_secrets(service: Service, clock: Clock) -> None:
    runner, client = executor(service)
    runner.run({"x": np.array([1], np.float32)}, 1)
    clock.now = 11
    assert runner.run({"x": np.array([2], np.float32)}, 1)[0] == [2]
    assert client.made == 2
    other, _ = executor(Service("keyed", DIGEST, True, {"call_02": KeyedServer()}))
    with pytest.raises(ProtocolError, match="no region"):
        other.run({"x": np.array([2], np.float32)}, 1)


@pytest.mark.promise("evaluation-keys")
def test_identifiers_are_unguessable() -> None:
    store = SessionStore(SessionLimits(sessions=100))
    identifiers = {store.open({}, 1) for _ in range(100)}
    assert len(identifiers) == 100
    assert all(len(bytes.fromhex(identifier)) == 16 for identifier in identifiers)


@pytest.mark.promise("evaluation-keys")
def test_unknown_and_expired_sessions_are_told_apart(http: TestClient, clock: Clock) -> None:
    url = f"/v1/artifacts/{DIGEST}"
    session = http.post(f"{url}/sessions", content=KEYS).text
    body = b"".join(pack_request(1, [bytes(32), b"data"], session))
    assert http.post(f"{url}/regions/call_01", content=body).content == b"data"
    clock.now = 10.5
    gone = http.post(f"{url}/regions/call_01", content=body)
    assert (gone.status_code, "open a new one" in gone.json()["error"]) == (410, True)
    for name in ("", "f" * 32, "../sessions", "\0"):
        response = http.post(f"{url}/regions/call_01", content=b"".join(pack_request(1, [bytes(36)], name)))
        assert (response.status_code, "open a new one" in response.json()["error"]) == (404, True)


def test_use_keeps_a_session_open(service: Service, clock: Clock) -> None:
    session = service.open_session(DIGEST, KEYS)
    for clock.now in (9, 18, 27):
        service.sessions.find(session)


def test_closing_forgets_the_keys(http: TestClient, service: Service) -> None:
    url = f"/v1/artifacts/{DIGEST}/sessions"
    session = http.post(url, content=KEYS).text
    assert http.delete(f"{url}/{session}").status_code == 200
    assert len(service.sessions) == 0
    assert http.delete(f"{url}/{session}").status_code == 200
    assert http.delete(f"/v1/artifacts/{'0' * 64}/sessions/{session}").status_code == 404


def test_a_full_store_refuses_and_keeps_what_it_has(http: TestClient, service: Service, clock: Clock) -> None:
    url = f"/v1/artifacts/{DIGEST}/sessions"
    first = http.post(url, content=KEYS).text
    http.post(url, content=KEYS)
    full = http.post(url, content=KEYS)
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    service.sessions.find(first)
    clock.now = 11
    assert http.post(url, content=KEYS).status_code == 200


@pytest.mark.promise("evaluation-keys")
def test_bytes_are_bounded() -> None:
    store = SessionStore(SessionLimits(9, 100, 10.0))
    store.open({}, 60)
    with pytest.raises(ProtocolError, match="come back later"):
        store.reserve(60)
    with pytest.raises(ProtocolError, match="keeps 100 in all") as caught:
        store.reserve(101)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"".join(pack_keys({})), 422),
        (b"".join(pack_keys({"mask": bytes(31)})), 422),
        (b"".join(pack_keys({"mask": bytes(65)})), 422),
        (b"".join(pack_keys({"mask": bytes(32), "more": b"1"})), 422),
        (KEYS[:-1], 422),
        (bytes(10_000), 413),
    ],
)
def test_malformed_uploads_are_refused(http: TestClient, service: Service, body: bytes, status: int) -> None:
    response = http.post(f"/v1/artifacts/{DIGEST}/sessions", content=body)
    assert (response.status_code, len(service.sessions)) == (status, 0)
    assert response.json()["error"]


def test_keys_of_another_session_are_refused(http: TestClient) -> None:
    url = f"/v1/artifacts/{DIGEST}"
    session = http.post(f"{url}/sessions", content=KEYS).text
    response = http.post(f"{url}/regions/call_01", content=b"".join(pack_request(1, [b"x" * 36], session)))
    assert (response.status_code, "another session" in response.json()["error"]) == (422, True)


def test_artifacts_without_keys_have_no_sessions(service: Service) -> None:
    class Keyless(KeyedServer):
        def key_sizes(self) -> dict[str, int]:
            return {}

    plain = Service("plain", DIGEST, True, {"call_01": Keyless()})
    assert TestClient(create_app(plain)).post(f"/v1/artifacts/{DIGEST}/sessions", content=KEYS).status_code == 404


@pytest.mark.promise("evaluation-keys")
def test_neither_keys_nor_identifiers_reach_a_log(http: TestClient, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hecompile")
    url = f"/v1/artifacts/{DIGEST}/sessions"
    session = http.post(url, content=KEYS).text
    http.delete(f"{url}/{session}")
    assert session not in caplog.text
    assert "sessions/{identifier}" in caplog.text
    kept = service.sessions.find(service.open_session(DIGEST, KEYS))
    assert repr(kept) == "Session()"
