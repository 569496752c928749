"""The commands that serve an artifact and draw with it: addresses, warnings, and options of the way to a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hecompile.cli.app import app
from hecompile.compiler import Compiled
from hecompile.errors import CompileError
from hecompile.runtime.client import EncryptedUNet

HECOMPILE = [sys.executable, "-c", "from hecompile.cli import main; main()"]


@pytest.mark.parametrize(
    ("host", "address", "warned"),
    [("127.0.0.1", "http://127.0.0.1:", False), ("::1", "http://[::1]:", False), ("0.0.0.0", "http://0.0.0.0:", True)],
)
def test_serve_tells_its_address_and_warns_of_other_machines(tiny: Compiled, host: str, address: str, warned: bool) -> None:
    command = [*HECOMPILE, "serve", str(tiny.artifact), "--host", host, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        process.terminate()
        said = process.stderr.read()
    if not line and host == "::1":
        pytest.skip("no address of IPv6 here")
    assert json.loads(line)["url"].startswith(address)
    assert ("plain HTTP that other machines can reach" in said) is warned


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--key", "a.key"], "--key without --cert"),
        (["--server", "https://127.0.0.1:9", "--ca", "absent.pem"], "absent.pem cannot be used"),
        (["--server", "https://127.0.0.1:9", "--cert", "absent.pem"], "absent.pem or its key cannot be used"),
        (["--server", "http://192.0.2.1:9", "--token-file", "token"], "Authorization would be sent without encryption"),
        (["--server", "http://192.0.2.1:9", "--header", "X-Key: open-sesame"], "X-Key would be sent without encryption"),
        (["--server", "http://127.0.0.1:9", "--header", "open-sesame"], "without a colon"),
        (["--server", "http://127.0.0.1:9", "--header", "Host: open-sesame"], "set by hecompile itself"),
        (["--server", "http://127.0.0.1:9", "--token-file", "absent"], "absent cannot be read"),
        (["--server", "http://127.0.0.1:9", "--token-file", "two"], "the token is malformed"),
        (["--server", "http://127.0.0.1:9", "--ca", "token"], "have no effect without TLS"),
        (["--server", "http://[::1"], "not an address of a server"),
        (["--token-file", "token"], "no effect without a URL"),
        (["--token-file", "token", "--simulate"], "a simulation uses no server"),
    ],
)
def test_options_of_sample_are_judged(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    (tmp_path / "two").write_text("open sesame\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sample", str(digits), *options])
    assert isinstance(result.exception, CompileError)
    assert reason in str(result.exception)
    assert "sesame" not in str(result.exception) + result.output


@pytest.mark.parametrize("name", ["picture.xbm", "picture.hdf", "picture.wmf"])
def test_kinds_of_pictures_that_cannot_be_written_are_refused_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "absent"), "-o", str(tmp_path / name)])
    assert isinstance(result.exception, CompileError)
    assert "cannot be written as" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_that_fails_closes_its_model(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server would keep the keys of its session."""
    closed = list[EncryptedUNet]()
    monkeypatch.setattr(EncryptedUNet, "close", lambda unet: closed.append(unet))
    result = CliRunner().invoke(app, ["sample", str(digits), "--label", "99", "-o", str(tmp_path / "picture.png")])
    assert isinstance(result.exception, CompileError)
    assert len(closed) == 1


def test_a_simulation_does_not_tell_the_password_of_a_server(digits: Path, tmp_path: Path) -> None:
    options = ["--simulate", "--server", "https://me:open-sesame@localhost", "-o", str(tmp_path / "picture.png")]
    result = CliRunner().invoke(app, ["sample", str(digits), *options])
    assert isinstance(result.exception, CompileError)
    assert "sesame" not in str(result.exception) + result.output
