"""The files that container images are made of: they run as nobody (`make lint` runs the linter), and what they name exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from typer.main import get_command

from hecompile.cli.app import app
from tests.deploy.proxy import ROOT, free_port

FILES = {kind: ROOT / "deploy" / f"Dockerfile.{kind}" for kind in ("server", "client")}


def instructions(kind: str) -> list[tuple[str, str]]:
    """The instructions of a file in their order, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", FILES[kind].read_text())
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def last(kind: str, instruction: str) -> str:
    """What an instruction says in the stage that becomes the image. Raises `KeyError` if it is not there."""
    return dict(instructions(kind))[instruction]


def no_daemon() -> str:
    """Why images cannot be built here; empty if they can."""
    if shutil.which("docker") is None:
        return "there is no docker"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return "" if asked.returncode == 0 else "docker info fails: no daemon runs"


REASON = no_daemon()
needs_docker = pytest.mark.skipif(bool(REASON), reason=REASON or "docker runs")


@pytest.mark.parametrize("kind", FILES)
def test_an_image_runs_as_nobody(kind: str) -> None:
    user, _, group = last(kind, "USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [name for name, _ in instructions(kind)]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name in ("COPY", "RUN"))


@pytest.mark.parametrize("kind", FILES)
def test_an_image_names_options_and_extras_that_exist(kind: str) -> None:
    entry = json.loads(last(kind, "ENTRYPOINT"))
    given = json.loads(last(kind, "CMD"))
    assert entry[0] == "hecompile"
    group = get_command(app)
    command = group.commands[(entry + given)[1]]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in given if word.startswith("--")} <= known
    extras = set(re.findall(r"\[(\w+)\]", FILES[kind].read_text()))
    project = (ROOT / "pyproject.toml").read_text()
    assert [extra for extra in extras if not re.search(rf"^{extra} = \[", project, re.M)] == []


def test_a_server_is_asked_for_its_health_and_takes_the_artifact_read_only() -> None:
    text = FILES["server"].read_text()
    port = re.search(r'"--port", "(\d+)"', text)
    assert port is not None
    assert last("server", "EXPOSE") == port[1]
    assert f"http://127.0.0.1:{port[1]}/healthz" in last("server", "HEALTHCHECK")
    assert re.search(r"-v \S+:/srv/model\.he:ro", text)
    assert json.loads(last("server", "CMD"))[0] == "/srv/model.he"


def test_what_an_image_is_made_from_is_in_its_context() -> None:
    """What `.dockerignore` leaves out must not be what the wheel needs."""
    ignored = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")}
    needed = {"hecompile", "passes", "runtime", "models", "native", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    assert not ignored & needed
    assert {".git", ".venv", "build"} <= ignored


@pytest.mark.slow
@needs_docker
def test_the_image_of_a_server_serves(digits: Path) -> None:
    tag = "hecompile-server-of-tests"
    subprocess.run(["docker", "build", "-q", "-f", FILES["server"], "-t", tag, "."], cwd=ROOT, check=True)
    port = free_port()
    hardened = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    places = ["-p", f"127.0.0.1:{port}:8100", "-v", f"{digits / 'server'}:/srv/model.he:ro"]
    started = subprocess.run(["docker", "run", "-d", "--rm", *hardened, *places, tag], capture_output=True, text=True, check=True)
    try:
        assert answers(f"http://127.0.0.1:{port}/readyz")
        user = subprocess.run(["docker", "exec", started.stdout.strip(), "id", "-u"], capture_output=True, text=True, check=True)
        assert user.stdout.strip() == last("server", "USER").partition(":")[0]
    finally:
        subprocess.run(["docker", "rm", "-f", started.stdout.strip()], check=True, capture_output=True)


@pytest.mark.slow
@needs_docker
def test_the_image_of_a_client_has_what_it_needs() -> None:
    tag = "hecompile-client-of-tests"
    arguments = ["--build-arg", "EXTRAS=[arrays]"]  # without torch, which is gigabytes
    subprocess.run(["docker", "build", "-q", *arguments, "-f", FILES["client"], "-t", tag, "."], cwd=ROOT, check=True)
    told = subprocess.run(["docker", "run", "--rm", tag, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("hecompile ")


def answers(url: str) -> bool:
    """Whether a URL answers within a minute."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(0.5)
    return False
