"""`hecompile new`: a package that works as it is, under a name that is free, and nothing that exists is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hecompile.cli.app import app
from hecompile.cli.creating import Kind, files_of
from hecompile.errors import CompileError

NAMES = {Kind.PASS: "count-work", Kind.BACKEND: "half-size", Kind.POLICY: "few-requests", Kind.TRANSPORT: "counting-sender"}
BINARIES = Path(sys.executable).parent


def create(*arguments: str) -> None:
    """Run the command; its errors are raised."""
    result = CliRunner().invoke(app, ["new", *arguments], catch_exceptions=False)
    assert result.exit_code == 0


@pytest.mark.parametrize("kind", Kind)
def test_a_new_package_has_no_place_left_to_fill_in(kind: Kind, tmp_path: Path) -> None:
    name = NAMES[kind]
    create(kind, name, "--folder", str(tmp_path / name))
    module = name.replace("-", "_")
    written = sorted(path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*") if path.is_file())
    assert written == sorted(["README.md", f"{module}.py", "pyproject.toml", f"tests/test_{module}.py"])
    for path in written:
        text = (tmp_path / name / path).read_text()
        assert "$" not in text
        assert "TODO" not in text
        if path.endswith(".py"):
            compile(text, path, "exec")
    project = tomllib.loads((tmp_path / name / "pyproject.toml").read_text())["project"]
    assert project["name"] == name
    groups = {Kind.PASS: "hecompile.passes", Kind.BACKEND: "hecompile.backends", Kind.POLICY: "hecompile.policies"}
    assert list(project.get("entry-points", {})) == ([groups[kind]] if kind in groups else [])


@pytest.mark.parametrize("kind", Kind)
def test_a_new_package_is_formatted_and_linted_as_this_repository_is(kind: Kind, tmp_path: Path) -> None:
    folder, settings = tmp_path / NAMES[kind], str(Path(__file__).parents[1] / "pyproject.toml")
    create(kind, NAMES[kind], "--folder", str(folder))
    for arguments in (["check"], ["format", "--check"]):
        told = subprocess.run(
            [BINARIES / "ruff", *arguments, "--no-cache", "--config", settings, "."], cwd=folder, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
def test_the_tests_of_a_new_package_pass(kind: Kind, tmp_path: Path) -> None:
    folder = tmp_path / NAMES[kind]
    create(kind, NAMES[kind], "--folder", str(folder))
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout[-3000:]
    assert int(told.stdout.rpartition(" passed")[0].split()[-1]) >= 3


@pytest.mark.slow
def test_new_packages_are_correctly_typed(tmp_path: Path) -> None:
    for kind, name in NAMES.items():
        create(kind, name, "--folder", str(tmp_path / name))
    modules = [str(path) for path in sorted(tmp_path.rglob("*.py"))]
    settings = ["--strict", "--config-file", str(Path(__file__).parents[1] / "pyproject.toml")]
    environment = {"MYPYPATH": ":".join(str(tmp_path / name) for name in NAMES.values()), "PATH": "/usr/bin"}
    told = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, *modules], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert told.returncode == 0, told.stdout


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CompileError, match="mine exists already"):
        create("pass", "count-work", "--folder", str(tmp_path / "mine"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CompileError, match="file exists already"):
        create("pass", "count-work", "--folder", str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CompileError, match="link exists already"):
        create("pass", "count-work", "--folder", str(tmp_path / "link"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "mine", "notes.txt"]


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CompileError, match="cannot be written"):
        create("pass", "count-work", "--folder", str(tmp_path / "file" / "package"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Kind.PASS, "CountWork", "'CountWork' is no name for a pass"),
        (Kind.PASS, "../count", "is no name for a pass"),
        (Kind.PASS, "count-", "is no name for a pass"),
        (Kind.PASS, "split", "hecompile has a pass 'split'"),
        (Kind.PASS, "mark-secrets", "hecompile has a pass 'mark-secrets'"),
        (Kind.BACKEND, "ckks-clear", "hecompile has a backend 'ckks-clear'"),
        (Kind.POLICY, "strict", "hecompile has a policy 'strict'"),
        (Kind.POLICY, "class", "'class' is a word or a module of Python's"),
        (Kind.TRANSPORT, "json", "'json' is a word or a module of Python's"),
        (Kind.TRANSPORT, "torch", "'torch' is a word or a module of Python's"),
        (Kind.TRANSPORT, "traffic", "would hide Traffic, which the package uses"),
        (Kind.PASS, "counter", "would hide Counter"),
        (Kind.BACKEND, "client", "would hide Client"),
        (Kind.POLICY, "diagnostic", "would hide Diagnostic"),
    ],
)
def test_a_name_that_is_taken_or_malformed_is_refused(kind: Kind, name: str, reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        files_of(kind, name)


def test_what_was_written_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", "policy", "few-requests", "--folder", str(tmp_path / "p"), "--json"])
    told = json.loads(result.stdout)
    assert told["kind"] == "policy"
    assert (tmp_path / "p" / "tests" / "test_few_requests.py").is_file()
    assert told["files"] == ["pyproject.toml", "README.md", "few_requests.py", "tests/test_few_requests.py"]
    words = CliRunner().invoke(app, ["new", "policy", "few-requests", "--folder", str(tmp_path / "q")]).stdout.split()
    assert words[words.index("next:") + 1 :][:2] == ["pip", "install"]
