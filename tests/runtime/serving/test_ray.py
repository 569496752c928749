"""`hecompile serve --ray`: to clients a server like any other, with workers that may end or be replaced, on loopback alone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.serving.processes import Server, family
from benchmarks.serving.stored import Connection, Seen, Stored
from hecompile.cli.app import app
from hecompile.errors import CompileError
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.service import load_service
from hecompile.runtime.serving.cluster import ClusterOptions
from hecompile.runtime.serving.listening import listening_elsewhere
from hecompile.runtime.wire import TAG_HEADER
from hecompile.sampling.labels import draw_labels

pytest.importorskip("ray", reason="Ray is not installed: pip install 'hecompile[ray]'")
psutil = pytest.importorskip("psutil")


@pytest.fixture(scope="module")
def server(digits: Path) -> Iterator[Server]:
    with Server(digits, "--ray", "--replicas", "2", "--idle-replicas", "2") as running:
        yield running


@pytest.fixture(scope="module")
def stored(digits: Path) -> Stored:
    """A request, and what one server answers."""
    import numpy as np

    from hecompile.artifact_files import read_client_half
    from hecompile.backends.bfv.program import region_program
    from hecompile.runtime.wire import pack_request

    bundle, service = load_bundle(digits), load_service(digits)
    name, client = max(bundle.calls.items(), key=lambda item: item[1].request_bytes(1))
    half = read_client_half(digits, bundle.manifest.files, f"client/{name}")
    geometry = {layer.input: layer.geometry for layer in region_program(half).body.layers}
    values = [np.ones((1, geometry[source].channels, *geometry[source].size), np.float32) for source in client.inputs]
    body = b"".join(pack_request(1, client.encrypt(values, 1)[0]))
    return Stored(f"/v1/artifacts/{service.digest}/regions/{name}", body, bytes(service.answer(service.digest, name, body)))


def workers(server: Server) -> set[int]:
    pids = set[int]()
    for pid in family(server.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ServeReplica" in command:
            pids.add(pid)
    return pids


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


def under_load(server: Server, stored: Stored, seconds: float, during: list[tuple[float, int, int]]) -> Seen:
    """What three clients saw; `during` are signals: after how many seconds, to which process, which."""
    seen, end = Seen(), time.monotonic() + seconds

    def work() -> None:
        connection = Connection(server.url, seen)
        while time.monotonic() < end:
            reply = connection.ask(stored)
            seen.replies += reply is not None
            seen.wrong += reply is not None and reply != stored.reply

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for after_s, pid, number in during:
        time.sleep(after_s)
        os.kill(pid, number)
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.slow
def test_two_steps_through_workers_give_the_picture_of_one_server(server: Server, digits: Path, tmp_path: Path) -> None:
    for name, url in (("workers", server.url), ("here", None)):
        draw_labels(digits, url, [3], 2, 0, "ddim", "strict", tmp_path / f"{name}.png", False, False, {})
    assert (tmp_path / "workers.png").read_bytes() == (tmp_path / "here.png").read_bytes()


@pytest.mark.slow
def test_a_request_that_comes_again_is_not_evaluated_twice(server: Server, stored: Stored) -> None:
    before = [metric(server, f"hecompile_{name}") for name in ("evaluation_seconds_count", "repeated_requests_total")]
    request = urllib.request.Request(server.url + stored.path, stored.request, {TAG_HEADER: "0123456789abcdef" * 2})
    for _ in range(3):
        with urllib.request.urlopen(request) as response:
            assert response.read() == stored.reply
    after = [metric(server, f"hecompile_{name}") for name in ("evaluation_seconds_count", "repeated_requests_total")]
    assert after == [before[0] + 1, before[1] + 2]


@pytest.mark.slow
@pytest.mark.promise("loopback")
def test_nothing_that_ray_starts_can_be_reached_from_elsewhere(server: Server, stored: Stored) -> None:
    """The addresses are read by psutil and by the server's own reader of sockets."""
    assert Connection(server.url, Seen()).ask(stored) == stored.reply  # all that answers has been started
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    addresses = [
        connection.laddr.ip for process in processes for connection in process.net_connections() if connection.status == "LISTEN"
    ]
    assert len(addresses) > 8
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    assert listening_elsewhere(family(server.pid)) == []


@pytest.mark.slow
@pytest.mark.promise("loopback")
def test_who_has_no_token_cannot_join(server: Server) -> None:
    """A process that joins could run its own code. The test asks Ray's central service, as every joining process must first."""
    grpc = pytest.importorskip("grpc")
    centre = next(pid for pid in family(server.pid) if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
    port = next(connection.laddr.port for connection in psutil.Process(centre).net_connections() if connection.status == "LISTEN")
    token = next(
        variable for variable in Path(f"/proc/{centre}/environ").read_text().split("\0") if variable.startswith("RAY_AUTH_TOKEN=")
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in ("NodeInfoGcsService/GetClusterId", "NodeInfoGcsService/GetAllNodeInfo", "JobInfoGcsService/AddJob"):
            call = channel.unary_unary(f"/ray.rpc.{method}")
            for guess in (None, [("authorization", f"Bearer {'0' * 64}")]):
                with pytest.raises(grpc.RpcError) as refused:
                    call(b"", metadata=guess, timeout=30)
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert call(b"", metadata=[("authorization", f"Bearer {token.partition('=')[2]}")], timeout=30)


@pytest.mark.slow
def test_workers_that_are_killed_lose_no_request(server: Server, stored: Stored) -> None:
    victims = sorted(workers(server))
    assert len(victims) == 2
    seen = under_load(server, stored, 12.0, [(1.0, victims[0], signal.SIGKILL), (2.0, victims[1], signal.SIGKILL)])
    assert seen.lost.total() == 0
    assert seen.wrong == 0
    assert seen.replies > 10
    assert not workers(server) & set(victims)


@pytest.mark.slow
def test_a_signal_replaces_all_workers_and_loses_no_request(server: Server, stored: Stored) -> None:
    before = workers(server)
    seen = under_load(server, stored, 12.0, [(1.0, server.pid, signal.SIGHUP)])
    until = time.monotonic() + 60
    while workers(server) & before and time.monotonic() < until:
        time.sleep(0.5)
    assert seen.lost.total() == 0
    assert seen.wrong == 0
    assert seen.replies > 10
    assert workers(server)
    assert not workers(server) & before


@pytest.mark.slow
def test_shards_answer_with_the_bytes_of_one_server_grow_with_the_queue_and_leave_nothing_behind(
    digits: Path, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")  # sockets have short names
    begun = time.time()
    with Server(digits, "--ray", "--shards", "2", "--replicas", "2") as server:
        assert Connection(server.url, Seen()).ask(stored) == stored.reply
        assert len(workers(server)) == 2
        seen = under_load(server, stored, 12.0, [])
        assert seen.wrong == seen.lost.total() == 0
        assert len(workers(server)) > 2
        children = set(family(server.pid))
        folders = [path for path in Path("/tmp").glob("hecompile-ray-*") if path.is_dir() and path.stat().st_ctime >= begun - 1]
        assert [oct(path.stat().st_mode & 0o777) for path in folders] == ["0o700"] * len(folders)
        assert folders
    assert [pid for pid in children if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()] == []
    assert [path for path in folders if path.exists()] == []


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"replicas": -1}, "--replicas -1"),
        ({"threads": 0}, "--threads 0"),
        ({"shards": 0}, "--shards 0"),
        ({"replicas": 2, "idle_replicas": 3}, "--idle-replicas 3: it must be between 1 and 2"),
        ({"idle_replicas": 0}, "--idle-replicas 0"),
        ({"replicas": 10**9}, "--replicas 1000000000"),
    ],
)
def test_numbers_that_make_no_workers_are_refused(numbers: dict[str, int], reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        ClusterOptions(**numbers)  # type: ignore[arg-type]


def test_as_many_workers_as_processors_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    assert ClusterOptions(threads=2, shards=3).replicas == 2
    assert ClusterOptions(threads=64).replicas == 1
    assert json.loads(json.dumps(ClusterOptions(replicas=5).document()))["replicas"] == 5


@pytest.mark.parametrize(
    "options", [["--replicas", "2"], ["--idle-replicas", "1"], ["--threads", "1"], ["--shards", "2"], ["--ray-address", "x"]]
)
def test_options_of_workers_without_workers_are_refused(digits: Path, options: list[str]) -> None:
    result = CliRunner().invoke(app, ["serve", str(digits), "--port", "0", *options])
    assert isinstance(result.exception, CompileError)
    assert f"{options[0]} has no effect without --ray" in str(result.exception)
