"""What draws behind the page: artifacts that are found again, a server that runs already, and the page's command and document."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from hecompile.cli.app import app as commands
from hecompile.demo.artifacts import Artifacts, default_folder
from hecompile.demo.running import opened
from hecompile.demo.servers import ServerProcess
from hecompile.errors import CompileError, HecompileError, ProtocolError
from hecompile.runtime.server import bind

ROOT = Path(__file__).parents[2]
WISH = {"prompt": "a large red circle on a white background", "policy": "strict", "steps": 2, "guidance": 1.0, "seed": 3}
MAIN = "from hecompile.cli import main; main()"


def silent(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy of the page's artifacts."""
    return Path(shutil.copytree(folder, tmp_path / "demo"))


@pytest.mark.slow
def test_artifacts_are_found_again(folder: Path) -> None:
    for policy in ("strict", "min-distortion", "he-diffusion"):
        assert Artifacts(folder).of(policy, silent).parent == folder


@pytest.mark.slow
@pytest.mark.parametrize("part", ["report.html", "server/manifest.json"])
def test_what_changed_is_refused_and_compiled_again_once_removed(own_folder: Path, part: str) -> None:
    artifact, told = Artifacts(own_folder).of("he-diffusion", silent), list[str]()
    (artifact / part).write_bytes((artifact / part).read_bytes()[:-1])
    with pytest.raises(CompileError, match="remove that folder"):
        Artifacts(own_folder).of("he-diffusion", silent)
    shutil.rmtree(artifact)
    assert Artifacts(own_folder).of("he-diffusion", told.append) == artifact
    assert told == ["compiling the model for he-diffusion, once"]


@pytest.mark.slow
def test_other_weights_make_another_artifact(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, told = Artifacts(own_folder).of("he-diffusion", silent), list[str]()
    monkeypatch.setattr("hecompile.demo.artifacts.file_digest", lambda path: "of other weights")
    assert Artifacts(own_folder).of("he-diffusion", told.append) != artifact
    assert len(told) == 1


def test_artifacts_lie_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HECOMPILE_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "demo"


@pytest.mark.slow
def test_a_server_that_runs_already_is_used(folder: Path) -> None:
    process = ServerProcess(Artifacts(folder).of("strict", silent))
    try:
        url = process.url()
        with opened(folder, url, 0) as (app, listener, studio):
            page = f"http://127.0.0.1:{listener.getsockname()[1]}"
            client = TestClient(app, base_url=page, headers={"Origin": page})

            def last(**change: Any) -> dict[str, Any]:
                answer = client.post("/draw", json={**WISH, **change})
                return dict(json.loads(answer.text.splitlines()[-1]))

            assert studio.servers == {}  # none of its own
            assert client.get("/about").json()["policies"] == ["strict"]
            assert last()["event"] == "finished"
            assert f"{url} serves the artifact for strict alone" in last(policy="min-distortion", seed=None)["message"]
            process.close()
            gone = last()
            assert (gone["event"], "draw again when it is back" in gone["message"]) == ("failed", True)
    finally:
        process.close()


def test_an_interruption_while_it_starts_closes_what_was_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed, making, interrupted = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, *arguments: object) -> None:
            making.set()
            interrupted.wait(10)

        def close(self) -> None:
            closed.set()

    def interrupt() -> None:
        making.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # it waits for the making
        interrupted.set()

    monkeypatch.setattr("hecompile.demo.running.Studio", Slow)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, None, 0):
        pass
    assert making.is_set()
    assert closed.is_set()


@pytest.mark.slow
def test_a_caption_is_written_nowhere(
    own_folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    prompt = "a small purple cross on a green background"
    with caplog.at_level(logging.DEBUG), opened(own_folder, None, 0) as (app, listener, _):
        page = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer = TestClient(app, base_url=page, headers={"Origin": page}).post("/draw", json={**WISH, "prompt": prompt})
        assert json.loads(answer.text.splitlines()[-1])["event"] == "finished"
    said = capfd.readouterr()
    assert "purple" not in caplog.text + said.out + said.err
    texts = [path.read_bytes() for path in own_folder.rglob("*") if path.suffix in ("", ".log", ".txt") and path.is_file()]
    assert not any(b"purple cross" in text for text in texts)


@pytest.mark.slow
def test_other_policies_are_shown_of_the_last_drawing_alone(folder: Path) -> None:
    with opened(folder, None, 0) as (app, listener, _):
        page = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = TestClient(app, base_url=page, headers={"Origin": page})

        def told(path: str, document: object) -> list[dict[str, Any]]:
            return [json.loads(line) for line in client.post(path, json=document).text.splitlines()]

        first, second = (told("/draw", WISH)[-1]["drawing"] for _ in range(2))
        assert "another picture was drawn since" in told("/others", {"drawing": first})[-1]["message"]
        assert "another picture was drawn since" in told("/others", {"drawing": "0" * 32})[-1]["message"]
        views = told("/others", {"drawing": second})
        assert [(view["policy"], view["step"]) for view in views] == [
            ("he-diffusion", 1), ("he-diffusion", 2), ("min-distortion", 1), ("min-distortion", 2),
        ]  # fmt: skip


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "none.he")
    with pytest.raises(ProtocolError, match=re.escape(f"did not start: see {tmp_path / 'none.log'}")):
        process.url()
    assert "none.he" in (tmp_path / "none.log").read_text()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HecompileError, match=f"cannot listen on 127.0.0.1:{port}"), opened(tmp_path, None, port):
            pass


def test_help_tells_the_options() -> None:
    text = CliRunner().invoke(commands, ["demo", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).stdout
    for option in ("--port", "--server", "--folder", "--no-open", "--json"):
        assert option in text
    assert "a picture that the server never sees" in text
    assert "demo" in CliRunner().invoke(commands, ["--help"]).stdout


def test_the_extra_that_is_missing_is_named(tmp_path: Path) -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'diffusers', 'PIL'])); "
    command = [sys.executable, "-c", absent + MAIN, "demo", "--no-open", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("needs the extra 'models': pip install 'hecompile[models]'")
    assert done.returncode == 2


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends_with_its_server(folder: Path) -> None:
    command = [sys.executable, "-c", MAIN, "demo", "--no-open", "--json", "--folder", str(folder)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    told = json.loads(demo.stdout.readline())
    with urllib.request.urlopen(told["url"]) as answer:
        assert b"A server draws your picture without seeing it" in answer.read()
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(told["servers"]["strict"], 0)


@pytest.mark.slow
def test_the_code_of_the_document_runs(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HECOMPILE_CACHE", str(own_folder.parent))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "demo.md").read_text(), re.S)
    exec(compile(block, "demo.md", "exec"), {})  # our own document
    assert "nothing about the caption or the picture" in capsys.readouterr().out
