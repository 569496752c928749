"""Clients that hang up within an evaluation of Concrete: whoever comes next is answered as if they had not been there."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx
import pytest

from hecompile.backends.concrete.server import LinearServer
from hecompile.backends.concrete.worker_process import WorkerProcess
from hecompile.backends.concrete.workers import workers
from hecompile.compiler import Compiled
from hecompile.runtime.service import load_service
from hecompile.runtime.wire import pack_request
from tests.faults.restarting import SERVE

pytestmark = pytest.mark.fhe

LONGEST_S = 300.0  # that a busy machine may take
HANG_UPS = (0.0, 0.002, 0.005, 0.01, 0.02)  # seconds after the request: before, within, and at the end of its evaluation


class Server:
    """`hecompile serve` of an artifact, and one good request for it."""

    def __init__(self, artifact: Path) -> None:
        service = load_service(artifact)
        name, region = next(iter(service.regions.items()))
        assert isinstance(region, LinearServer)
        self.region, self._path = region, f"/v1/artifacts/{service.digest}/regions/{name}"
        self._body = b"".join(pack_request(1, [bytes(region.request_bytes(1))]))
        self.process = subprocess.Popen([*SERVE, str(artifact), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._url = json.loads(self.process.stdout.readline())["url"]

    def ask(self) -> float:
        """Seconds until the request is answered."""
        started = time.monotonic()
        reply = httpx.post(self._url + self._path, content=self._body, timeout=LONGEST_S, trust_env=False)
        assert reply.status_code == 200, reply.text
        return time.monotonic() - started

    def hang_up(self, after_s: float) -> None:
        """Send the request and leave."""
        url = httpx.URL(self._url)
        assert url.port is not None
        head = f"POST {self._path} HTTP/1.1\r\nhost: here\r\ncontent-length: {len(self._body)}\r\n\r\n"
        with socket.create_connection((url.host, url.port)) as connection:
            connection.sendall(head.encode() + self._body)
            time.sleep(after_s)

    def workers(self) -> set[int]:
        """Process identifiers of its workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return {int(child) for task in tasks for child in task.read_text().split()}

    def settled(self) -> set[int]:
        """The server's workers, once the spare one has loaded the circuit too and both were idle for a second."""
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            present, before = self.workers(), self._used()
            time.sleep(1)
            if len(present) == 2 and self._used() - before < 0.05:
                return present
        raise AssertionError(f"{len(self.workers())} workers, which go on computing")

    def _used(self) -> float:
        """Seconds that its workers computed."""
        stats = [Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in self.workers()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / 100


@pytest.fixture(scope="module")
def artifact(tiny_concrete: Compiled) -> Path:
    assert tiny_concrete.artifact is not None
    return tiny_concrete.artifact


@pytest.fixture
def server(artifact: Path) -> Iterator[Server]:
    own = Server(artifact)
    yield own
    own.process.terminate()
    own.process.communicate(timeout=LONGEST_S)


def cold_start_s(server: Server) -> float:
    """Seconds from nothing to a worker with the circuit."""
    process, started = WorkerProcess(), time.monotonic()
    try:
        for circuit in server.region._circuits:
            process.load(circuit)
        return time.monotonic() - started
    finally:
        process.close()


@pytest.mark.promise("hanging-up")
def test_hanging_up_does_not_delay_the_next_request_and_no_worker_is_lost(server: Server) -> None:
    server.ask()
    before = server.settled()
    cold_s, undisturbed_s = cold_start_s(server), max(server.ask() for _ in range(5))
    disturbed_s = list[float]()
    for after_s in HANG_UPS:
        for _ in range(3):
            server.hang_up(after_s)
        disturbed_s.append(server.ask())
    assert median(disturbed_s) < 10 * undisturbed_s + cold_s / 2
    assert server.workers() == before


@pytest.mark.promise("hanging-up")
def test_a_region_that_is_cancelled_at_any_time_answers_the_next_request(artifact: Path) -> None:
    region = next(iter(load_service(artifact).regions.values()))
    payload = bytes(region.request_bytes(1))
    region.evaluate(payload, 1)
    assert workers().wait_until_ready(LONGEST_S)
    started = workers().started
    for after_s in HANG_UPS:
        timer = threading.Timer(after_s, region.cancel)
        timer.start()
        region.evaluate(payload, 1)
        timer.join()
    region.evaluate(payload, 1)
    assert workers().started == started
