"""Does what a newcomer does: a fresh environment, a fresh folder, and the code blocks of a document, top to bottom."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Block", "Newcomer", "blocks", "fresh_environment", "newcomer", "reason_not_to_run"]

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START_S, LINE_S = 60.0, 600.0

SESSION = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
names = {"__name__": "__main__"}
for line in sys.stdin:
    said = ""
    try:
        exec(compile(json.loads(line), "block", "exec"), names)
    except BaseException:
        said = traceback.format_exc()
    print(json.dumps(said), file=answers, flush=True)
"""

NOT_RUN = {
    r"make (demo|test)\b": "sets up an environment of its own, and takes minutes",
    r"(python3 -m venv|\. \.venv/|pip install) ?": "what `fresh_environment` does",
}
OTHER_EXTRAS = {r"--backend (ckks|concrete)\b": "needs another extra than `models`"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: `python`, or commands of a shell."""

    language: str
    text: str


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document but those of language `text`; no language is a shell."""
    fences = [Block(match[1] or "bash", match[2]) for match in FENCE.finditer(document.read_text("utf-8"))]
    return [block for block in fences if block.language != "text"]


def reason_not_to_run(line: str, whole: bool) -> str:
    """Why a line of a shell is left out; empty for those that run. `whole`: only the extra `models` is installed."""
    known = NOT_RUN | (OTHER_EXTRAS if whole else {})
    return next(
        (reason for pattern, reason in known.items() if re.search(rf"^{pattern}" if pattern in NOT_RUN else pattern, line)), ""
    )


def fresh_environment(folder: Path, whole: bool) -> Path:
    """A new virtual environment in this folder with hecompile installed; returns the folder of its programs.

    Args:
        whole: run the quickstart's own `pip install` lines, which download torch and take minutes. Otherwise a wheel of this
            repository is installed, and finds the packages that it needs in the environment that runs the tests.
    """
    _checked([sys.executable, "-m", "venv", *([] if whole else ["--without-pip"]), str(folder)])
    programs = folder / "bin"
    if whole:
        for line in _lines(blocks(ROOT / "docs" / "quickstart.md")[0].text):
            if line.startswith("pip install"):
                _checked(["bash", "-ec", line], cwd=ROOT, env=_environment(programs))
        return programs
    wheels, pip = folder / "wheels", [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    kept = ROOT / "build" / "newcomer"  # so that the next time compiles only what changed
    _checked([*pip, "wheel", "--no-deps", "--no-build-isolation", "-C", f"build-dir={kept}", "-w", str(wheels), str(ROOT)])
    (wheel,) = wheels.glob("*.whl")
    _checked([*pip, "--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel)])
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


@dataclass
class Newcomer:
    """Runs blocks in a folder, with the programs of an environment; servers go on in the background."""

    folder: Path
    programs: Path
    whole: bool
    ports: dict[str, int] = field(default_factory=dict)  # those of the text -> those that are free here
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    session: subprocess.Popen[str] | None = None  # of Python

    def run(self, block: Block) -> None:
        """Run a block in the one session of Python, or its commands in order; an `AssertionError` has what a failure said."""
        if block.language == "python":
            self._python(self._here(block.text))
            return
        for line in _lines(block.text):
            if reason_not_to_run(line, self.whole):
                continue
            if line.startswith("hecompile serve "):
                self._serve(line)
            else:
                self._command(["bash", "-ec", self._here(line)])

    def stop(self) -> None:
        """End the session and the servers."""
        processes: list[subprocess.Popen[bytes] | subprocess.Popen[str]] = [*self.servers]
        for process in processes + ([self.session] if self.session else []):
            process.terminate()
            process.wait(30)

    def _python(self, text: str) -> None:
        if self.session is None:
            command = [str(self.programs / "python"), "-c", SESSION]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.session = subprocess.Popen(command, cwd=self.folder, env=_environment(self.programs), text=True, **pipes)
        assert self.session.stdin is not None
        assert self.session.stdout is not None
        print(json.dumps(text), file=self.session.stdin, flush=True)
        said = json.loads(self.session.stdout.readline() or '"the session ended"')
        assert not said, f"{text}\n{said}"

    def _here(self, text: str) -> str:
        """The text with free ports in place of 8100 to 8109."""
        return re.sub(r"\b810\d\b", lambda match: str(self.ports.setdefault(match[0], _free_port())), text)

    def _serve(self, line: str) -> None:
        command = line.split("#")[0].rstrip()
        port = re.search(r"--port (\d+)", command)
        command = command if port else f"{command} --port 8100"
        here = self.ports.setdefault(port[1] if port else "8100", _free_port())
        server = subprocess.Popen(["bash", "-ec", f"exec {self._here(command)}"], cwd=self.folder, env=_environment(self.programs))
        self.servers.append(server)
        end = time.monotonic() + START_S
        while not _listens(here):
            assert server.poll() is None, f"{command} ended with {server.returncode}"
            assert time.monotonic() < end, f"{command} does not listen after {START_S:g} s"
            time.sleep(0.1)

    def _command(self, command: list[str]) -> None:
        _checked(command, cwd=self.folder, env=_environment(self.programs))


@contextmanager
def newcomer(folder: Path, programs: Path, whole: bool) -> Iterator[Newcomer]:
    """Somebody in an empty folder, whose servers are stopped at the end."""
    person = Newcomer(folder, programs, whole)
    try:
        yield person
    finally:
        person.stop()


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _environment(programs: Path) -> dict[str, str]:
    """Of the shell, without what points to the environment that runs the tests, and without the hub."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HECOMPILE_"))}
    return own | {"PATH": f"{programs}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def _checked(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=LINE_S)
    assert done.returncode == 0, f"{command[-1]}\nended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
