"""The commands as a user runs them: what they print, what they return, what they leave behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hecompile.cli import running
from hecompile.cli.app import app
from hecompile.compiler import Compiled

HECOMPILE = [sys.executable, "-c", "from hecompile.cli import main; main()"]
COMPILE_MODEL = [sys.executable, "-c", "from hecompile.cli import compile_model; compile_model()"]


@dataclass(frozen=True)
class Ended:
    """What a command returned and printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Ended:
    """A command in this process, but for its exit: importing takes a process longer than most commands."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["hecompile", *arguments])
        try:
            running.run(app)
        except SystemExit as end:
            return Ended(int(end.code or 0), out.getvalue(), err.getvalue())
    return Ended(0, out.getvalue(), err.getvalue())


def run_alone(*arguments: str, command: list[str] = HECOMPILE) -> Ended:
    """A command in a process of its own."""
    process = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    return Ended(process.returncode, process.stdout, process.stderr)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def last_json(result: Ended) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    document: dict[str, object] = json.loads(result.stdout.strip().splitlines()[-1])
    return document


@pytest.mark.slow
def test_compile_model_writes_an_artifact(tmp_path: Path) -> None:
    flags = ["--backend", "clear", "--max-batch", "2", "--json"]
    result = run_alone("digits", "-o", str(tmp_path / "a"), *flags, command=COMPILE_MODEL)
    assert [record["name"] for record in last_json(result)["passes"]][-1] == "write"
    assert (tmp_path / "a" / "report.html").is_file()


def test_inspect(digits: Path) -> None:
    inspected = last_json(run("inspect", str(digits), "--json"))
    assert (inspected["rounds_per_step"], inspected["encrypted_layers"], inspected["security_bits"]) == (20, 33, 128)
    text = run("inspect", str(digits)).stdout
    assert "worst-case" in text
    assert "input sample: B x 1 x 8 x 8, float32, secret" in text
    assert "input class_labels: B, int64, secret, a condition" in text
    assert "returns UNet2DOutput(sample)" in text
    assert "down_blocks.0.resnets.0.conv1" in text
    assert "client: 20 regions of its own" in text
    assert "client_01" not in text


def test_doctor() -> None:
    report = last_json(run("doctor", "--json"))
    assert report["ok"] is True
    assert report["kernel"] in {kernel["name"] for kernel in report["kernels"] if kernel["passed"]}
    assert report["missing"] == []


@pytest.fixture(scope="module")
def server(digits: Path) -> Iterator[str]:
    process = subprocess.Popen([*HECOMPILE, "serve", str(digits), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.wait()


@pytest.mark.fhe
def test_sample_through_a_server(digits: Path, server: str, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    summary = last_json(
        run("sample", str(digits), "--server", server, "--label", "7", "--steps", "2", "-o", str(picture), "--json")
    )
    assert summary["requests"] == 40
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["compile", "nosuch", "-o", "out"], "known: digits"),
        (["compile", "no/such/folder", "-o", "out"], "not a model"),
        (["compile", "digits", "-o", "out", "--policy", "none"], "known: he-diffusion, min-distortion, simulation, strict"),
        (["compile", "digits", "-o", "out", "--backend", "none"], "known: bfv, ckks, "),
        (["compile", "digits", "-o", "out", "--security", "80"], "supported: 128"),
        (["compile", "digits", "-o", "out", "--max-batch", "0"], "between 1 and 256"),
        (["compile", "digits", "-o", "out", "--protect-weights"], "circuit-private"),
        (["compile", "model.ckpt", "-o", "out"], "pickled"),
        (["compile", "digits", "-o", "out", "--size", "8by8"], "'8by8' is not a size"),
        (["compile", "digits", "-o", "out", "--tokens", "0"], "between 1 and"),
        (["compile", "digits", "-o", "out", "--machine", "nosuch.json"], "help: `hecompile measure-machine`"),
        (["measure-machine", "-o", "no/such/machine.json"], "there is no folder"),
        (["plan", "digits", "--pareto", "no/such/front"], "there is no folder"),
        (["sample", "nothing", "-o", "seven.txt"], "'.txt' is not the suffix of a picture file"),
        (["sample", "nothing", "-o", "no/such/seven.png"], "there is no folder"),
        (["serve", "nothing", "--port", "99999"], "65535"),
        (["inspect", "nothing"], "no artifact here"),
        (["serve", "nothing"], "no artifact here"),
        (["sample", "nothing"], "no artifact here"),
    ],
)
def test_bad_input_has_status_2_a_reason_and_leaves_nothing(tmp_path: Path, arguments: list[str], reason: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_process_ends_with_the_status_of_its_command() -> None:
    result = run_alone("inspect", "nothing")
    assert result.returncode == 2
    assert "no artifact here" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_label_that_does_not_exist(digits: Path, tmp_path: Path) -> None:
    result = run("sample", str(digits), "--label", "12")
    assert (result.returncode, "classes 0 to 9" in result.stderr, list(tmp_path.iterdir())) == (2, True, [])


@pytest.mark.slow
def test_a_server_that_is_gone(digits: Path, tmp_path: Path) -> None:
    result = run("sample", str(digits), "--server", "http://127.0.0.1:9", "--steps", "1")
    assert (result.returncode, "does not answer" in result.stderr, list(tmp_path.iterdir())) == (2, True, [])


def test_a_port_that_is_taken(digits: Path, server: str, tmp_path: Path) -> None:
    result = run("serve", str(digits), "--port", server.rsplit(":", 1)[1])
    assert (result.returncode, "cannot listen" in result.stderr) == (2, True)


@pytest.mark.fhe
def test_inspect_puts_predictions_beside_measurements(tiny: Compiled) -> None:
    compared = last_json(run("inspect", str(tiny.artifact), "--measured", "--json"))
    assert {row["what"] for row in compared["total"]} >= {"server_s", "client_s", "peak_mib"}


@pytest.mark.slow
def test_plan_writes_fronts(tmp_path: Path) -> None:
    plan = last_json(run("plan", "digits", "--rtt-ms", "5", "--pareto", str(tmp_path / "front"), "--json"))
    assert plan["worst_case"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"front.json", "front.png"}


@pytest.mark.slow
def test_plan_shows_the_best_plan_and_who_pays_what() -> None:
    arguments = ("plan", "digits", "--steps", "10", "--no-guidance", "--json")
    whole, best = (last_json(run(*arguments, *more)) for more in ((), ("--partition", "optimised", "--client-weights-mib", "0.05")))
    assert best["rounds"] < whole["rounds"] == 20
    assert [bill["what"] for bill in best["bills"]] == [
        "the first step", "a later step", "a picture: 10 steps, no guidance", "a picture: 4 steps, no guidance",
    ]  # fmt: skip
    assert best["bills"][2]["network_bytes"] < whole["bills"][2]["network_bytes"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--goal", "bytes"], "goal does nothing"),
        (["--client-weights-mib", "1"], "client_weights_mib does nothing"),
        (["--partition", "optimised", "--goal", "cheap"], "latency, client-cpu, server-cpu or bytes"),
        (["--pareto", "front", "--goal", "bytes"], "--pareto finds the fastest plans"),
    ],
)
def test_plan_refuses_flags_that_do_nothing(flags: list[str], reason: str) -> None:
    result = run("plan", "digits", *flags)
    assert (result.returncode, reason in result.stderr) == (2, True), result.stderr


@pytest.mark.slow
def test_plan_refuses_what_the_server_has_no_memory_for(tmp_path: Path) -> None:
    result = run("plan", "digits", "--memory-mib", "100")
    assert (result.returncode, "100 MiB are free" in result.stderr, "help: serve it on" in result.stderr) == (2, True, True)
