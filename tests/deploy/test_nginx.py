"""The shipped configuration of nginx in front of a real server, with TLS and a token, on loopback."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import hecompile
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.service import Service, load_service
from tests.deploy.proxy import CERTIFICATES, TOKEN, Proxy, Upstream, find_nginx
from tests.networks import Tiny, tiny_inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed (Debian: apt install nginx)"),
]
NGINX_DEFAULT = 1 << 20  # bytes of a body that nginx takes unless it is told otherwise
KILLED_AFTER = 7  # requests


def inputs(batch: int) -> dict[str, torch.Tensor]:
    """Of 16 x 16 places."""
    sample = torch.randn(batch, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    return tiny_inputs(batch) | {"sample": sample}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Tiny` under `bfv` for larger pictures, so that its longest requests are longer than what nginx takes by default."""
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    compile_model(Tiny().eval(), folder, options=CompileOptions(max_batch=128), example_inputs=inputs(2))
    return folder


@pytest.fixture(scope="module")
def service(artifact: Path) -> Service:
    served = load_service(artifact)
    assert served.body_limit > NGINX_DEFAULT
    return served


@pytest.fixture(scope="module")
def upstream(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A server that wants a token."""
    tokens = tmp_path_factory.mktemp("serve") / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    with Upstream(artifact, "--token-file", str(tokens)) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("nginx"), upstream) as started:
        yield started


def loaded(artifact: Path, proxy: Proxy) -> EncryptedUNet:
    return hecompile.load(artifact, proxy.url, verify=CERTIFICATES / "authority.pem", token=TOKEN)


def asked(proxy: Proxy, path: str, body: bytes | None = None, token: str = TOKEN) -> tuple[int, bytes]:
    """Status and body of an answer."""
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "authority.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=60, context=context)
    connection.request("GET" if body is None else "POST", path, body, {"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def held_bytes(upstream: Upstream) -> float:
    """Room that bodies take at the server, as Prometheus reads it, past the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("hecompile_body_bytes "))


def test_answers_through_the_proxy_are_those_without_it(artifact: Path, proxy: Proxy) -> None:
    unet, alone = loaded(artifact, proxy), hecompile.load(artifact)
    for batch in (2, 128):
        assert torch.equal(unet(**inputs(batch)), alone(**inputs(batch)))
    unet.close()


def test_a_body_of_the_artifacts_limit_passes_and_a_longer_one_is_refused(proxy: Proxy, service: Service) -> None:
    path = f"/v1/artifacts/{service.digest}/regions/{next(iter(service.regions))}"
    status, reason = asked(proxy, path, bytes(service.body_limit))
    assert status == 422  # it came whole, and is no request
    assert b"header" in reason
    status, reason = asked(proxy, path, bytes(service.body_limit + 1))
    assert status == 413
    assert str(service.body_limit).encode() in reason


def test_a_refusal_arrives_although_the_body_was_not_read(proxy: Proxy, service: Service) -> None:
    """Not as a 502: nginx is still sending when the server has answered."""
    path = f"/v1/artifacts/{service.digest}/regions/{next(iter(service.regions))}"
    for _ in range(20):
        assert asked(proxy, path, bytes(5 << 20), token="another-token-than-that")[0] == 401


@pytest.mark.promise("behind-a-proxy")
def test_what_is_open_to_strangers(proxy: Proxy, service: Service) -> None:
    assert asked(proxy, "/healthz", token="")[0] == 200
    assert asked(proxy, "/readyz", token="")[0] == 200
    assert asked(proxy, "/metrics")[0] == 404
    assert asked(proxy, "/openapi.json")[0] == 404
    assert asked(proxy, f"/v1/artifacts/{service.digest}", token="another-token-than-that")[0] == 401
    assert asked(proxy, f"/v1/artifacts/{service.digest}")[0] == 200


class Slow:
    """A request of which a byte comes now and then."""

    def __init__(self, proxy: Proxy, service: Service, source: str, claimed: str) -> None:
        """From an address on loopback, by a client that says it is another one."""
        self._left, self._stopped = service.body_limit, threading.Event()
        self.connection = proxy.connect(source)
        region = next(iter(service.regions))
        self.connection.sendall(
            f"POST /v1/artifacts/{service.digest}/regions/{region} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Length: {self._left}\r\nX-Forwarded-For: {claimed}\r\nConnection: close\r\n\r\n".encode()
        )
        self._thread = threading.Thread(target=self._trickle, daemon=True)
        self._thread.start()

    def _trickle(self) -> None:
        with suppress(OSError):
            while not self._stopped.wait(0.1):
                self.connection.sendall(b"x")
                self._left -= 1

    def finish(self) -> int:
        """Send what is left; the status of the answer."""
        self._stopped.set()
        self._thread.join()
        self.connection.sendall(bytes(self._left))
        return self.status()

    def give_up(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.connection.close()

    def refused(self) -> int:
        """The status of the answer that comes before the body is there."""
        status = self.status()
        self.give_up()
        return status

    def status(self) -> int:
        return int(self.connection.recv(12).split()[1])


@pytest.mark.promise("behind-a-proxy")
def test_clients_are_told_apart_by_their_address_and_not_by_what_they_say(artifact: Path, service: Service, tmp_path: Path) -> None:
    """Without tokens one address may fill half of the memory for bodies, which is two of the longest requests here."""
    mib = str(4 * service.body_limit / 2**20)
    with Upstream(artifact, "--body-mib", mib) as upstream, Proxy(tmp_path, upstream) as proxy:
        slow = [Slow(proxy, service, "127.0.0.1", "203.0.113.1") for _ in range(2)]
        deadline = time.monotonic() + 20
        while held_bytes(upstream) < 2 * service.body_limit:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert Slow(proxy, service, "127.0.0.1", "203.0.113.2").refused() == 503
        assert Slow(proxy, service, "127.0.0.2", "203.0.113.1").finish() == 422
        for sender in slow:
            sender.give_up()


def test_a_server_killed_and_started_again_within_a_run_loses_nothing(artifact: Path, upstream: Upstream, proxy: Proxy) -> None:
    unet, given = loaded(artifact, proxy), inputs(2)
    expected = hecompile.load(artifact)(**given)
    requests = threading.Semaphore(0)
    unet.meter.observers.append(lambda region: requests.release())

    def disturb() -> None:
        for _ in range(2):
            for _ in range(KILLED_AFTER):
                requests.acquire()
            upstream.kill()
            time.sleep(0.2)
            upstream.restart()

    disturbing = threading.Thread(target=disturb, daemon=True)
    disturbing.start()
    answers: list[torch.Tensor] = []
    while disturbing.is_alive() or len(answers) < 4:
        answers.append(unet(**given))
    disturbing.join()
    unet.close()
    assert all(torch.equal(answer, expected) for answer in answers)
