"""Linear circuits: secrecy of what is sent, workers that fail, hostile words and halves."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hecompile.backends.concrete import server as server_module
from hecompile.backends.concrete.workers import workers
from hecompile.backends.registry import backend
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.linear import Array
from hecompile.ir.regions import AnyCall
from hecompile.runtime.bundle import load_bundle
from tests.payloads import encrypt_whole
from tests.programs import program_of

pytestmark = pytest.mark.fhe


@pytest.fixture
def region(tiny_concrete: Compiled) -> AnyCall:
    return next(iter(program_of(tiny_concrete).calls.values()))


def half_with(region: AnyCall, **changes: Any) -> ClientHalf:
    """The client's half with other values in its first layer."""
    assert region.lowered is not None
    program = copy.deepcopy(dict(region.lowered.client.program))
    program["layers"][0].update(changes)  # type: ignore[index]
    return ClientHalf(program, region.lowered.client.tensors)


def ask(region: AnyCall, seed: int = 0) -> tuple[Any, Any, bytes, Any, list[Array]]:
    assert region.lowered is not None
    scheme = backend(region.backend)
    client, server = scheme.load_client(region.lowered.client), scheme.load_server(region.lowered.server)
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal((1, *shape)).astype(np.float32) for shape in [(2, 4, 4), (5,)][: len(region.inputs)]]
    payload, pending = encrypt_whole(client, values, 1)
    return client, server, payload, pending, values


def running_workers() -> list[int]:
    """Their process identifiers."""
    assert workers().wait_until_ready(300)
    processes = [worker._process for worker in workers()._processes if worker._process is not None]
    return [process.pid for process in processes if process.poll() is None]


def test_reports_tell_the_error_of_a_result_and_of_a_request(region: AnyCall) -> None:
    assert region.lowered is not None
    description = backend("concrete").describe(region.lowered.client)
    assert description.proof == "p_error 2^-40, 2^-33 a request"  # 16 pixels of 6 channels, and two linears of 6


@pytest.mark.promise("unrelated")
def test_equal_values_are_sent_as_different_words(region: AnyCall) -> None:
    words = [np.frombuffer(ask(region)[2], "<u8") for _ in range(2)]
    assert len(words[0]) == len(words[1])
    assert (words[0] == words[1]).mean() < 0.01
    assert len(np.unique(words[0])) == len(words[0])  # masks and bodies: no word twice


def test_an_answer_under_another_key_is_noise(region: AnyCall) -> None:
    client, server, payload, _, values = ask(region)
    _, other = encrypt_whole(client, values, 1)
    want = region.reference(values)[0]
    got = client.decrypt(server.evaluate(payload, 1), other)[0]
    assert abs(np.corrcoef(got.ravel(), want.ravel())[0, 1]) < 0.9
    assert not np.array_equal(got, want)


@pytest.mark.promise("concrete-words")
def test_hostile_words_are_evaluated_like_any(region: AnyCall) -> None:
    """Words are all that travels: none of them can do more than decrypt to nonsense."""
    client, server, payload, pending, _ = ask(region)
    reply = server.evaluate(b"\xff" * len(payload), 1)
    assert len(client.decrypt(reply, pending)) == len(region.outputs)
    assert len(client.decrypt(b"\xff" * len(reply), pending)) == len(region.outputs)


@pytest.mark.promise("concrete-words")
def test_a_worker_that_dies_is_told_and_replaced(region: AnyCall) -> None:
    client, server, payload, pending, values = ask(region)
    server.evaluate(payload, 1)
    for worker in running_workers():
        os.kill(worker, signal.SIGKILL)
        os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    got = client.decrypt(server.evaluate(payload, 1), pending)
    for one, want in zip(got, region.reference(values), strict=True):
        np.testing.assert_array_equal(one, want)


@pytest.mark.promise("concrete-words")
def test_an_evaluation_that_takes_too_long_is_stopped(region: AnyCall, monkeypatch: pytest.MonkeyPatch) -> None:
    _, server, payload, _, _ = ask(region)
    server.evaluate(payload, 1)
    monkeypatch.setattr(server_module, "LIMIT_S", 0.2)
    stopped = running_workers()
    for worker in stopped:  # it takes as long as it likes, on whatever machine
        os.kill(worker, signal.SIGSTOP)
    with pytest.raises(ProtocolError, match="took more than") as caught:
        server.evaluate(payload, 1)
    assert caught.value.status == 503
    monkeypatch.undo()
    for worker in set(stopped) & set(running_workers()):
        os.kill(worker, signal.SIGCONT)
    server.evaluate(payload, 1)


@pytest.mark.promise("128-bits")
def test_less_noise_than_the_table_wants_is_refused_by_the_client(tiny_concrete: Compiled, tmp_path: Path) -> None:
    import shutil

    from hecompile.artifact_files import digest

    assert tiny_concrete.artifact is not None
    folder = tmp_path / "weak"
    shutil.copytree(tiny_concrete.artifact, folder)
    name = next(path.name for path in sorted((folder / "client").glob("call_*.json")))
    document = json.loads((folder / "client" / name).read_text())
    specs = json.loads(document["layers"][0]["specs"])
    for gate in (*specs["circuits"][0]["inputs"], *specs["circuits"][0]["outputs"]):
        gate["typeInfo"]["lweCiphertext"]["encryption"]["variance"] = 1e-30
    document["layers"][0]["specs"] = json.dumps(specs)
    (folder / "client" / name).write_text(json.dumps(document))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][f"client/{name}"] = digest((folder / "client" / name).read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProtocolError, match="noise of"):
        load_bundle(folder)


def test_sums_that_leave_the_width_are_told(region: AnyCall) -> None:
    assert backend("concrete").check_proofs(ServerHalf(**vars(half_with(region)))) == []
    assert "exceed" in backend("concrete").check_proofs(ServerHalf(**vars(half_with(region, largest=1 << 40))))[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": {"entry": 0, "window": 1}},
        {"images_per_sample": 0},
        {"parts": []},
        {"specs": "{}"},
        {"request": {"head": "", "size": 8, "tail": ""}},
    ],
)
def test_halves_that_make_no_sense_are_refused(region: AnyCall, changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        backend("concrete").load_client(half_with(region, **changes))


def test_a_server_half_of_another_circuit_is_refused(region: AnyCall, tiny_concrete: Compiled) -> None:
    others = list(program_of(tiny_concrete).calls.values())
    assert region.lowered is not None
    assert others[-1].lowered is not None
    swapped = ServerHalf(region.lowered.server.program, {**region.lowered.server.tensors, **others[-1].lowered.server.tensors})
    _, _, payload, _, _ = ask(region)
    with pytest.raises(ProtocolError):
        backend("concrete").load_server(swapped).evaluate(payload, 1)


def test_the_servers_process_imports_neither_torch_nor_concrete(tiny_concrete: Compiled) -> None:
    code = (
        "import sys; from pathlib import Path; from hecompile.runtime.service import load_service; "
        "service = load_service(Path(sys.argv[1])); region = next(iter(service.regions)); server = service.regions[region]; "
        "server.evaluate(bytes(server.request_bytes(1)), 1); "
        "loaded = {name.split('.')[0] for name in sys.modules}; print(sorted(loaded & {'torch', 'diffusers', 'concrete'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_concrete.artifact)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMPILING = """
import os, sys
from pathlib import Path
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from tests.networks import Tiny, tiny_inputs

compile_model(Tiny().eval(), Path(sys.argv[1]), options=CompileOptions(backend="concrete"), example_inputs=tiny_inputs())
source, sink = os.pipe()
os.close(source)
try:
    os.write(sink, b"to nobody")
except BrokenPipeError:
    print("told")
"""


@pytest.mark.fhe
def test_a_broken_pipe_is_an_error_also_after_concrete_has_run(tmp_path: Path) -> None:
    """Its library installs a handler that ends the process."""
    done = subprocess.run([sys.executable, "-c", COMPILING, str(tmp_path / "tiny")], capture_output=True, text=True, timeout=300)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["told"], 0), done.stderr[-2000:]
