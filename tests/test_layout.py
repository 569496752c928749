"""The tree: one namespace over the mandated folders, small files, cheap import."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("hecompile", "passes", "runtime", "models") for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES = sorted({path.resolve() for path in SOURCES})


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    """Every node of every file."""
    return ((path, node) for path in SOURCES for node in ast.walk(tree_of(path)))


@pytest.mark.parametrize("name", ["passes", "runtime", "models"])
def test_the_mandated_folders_are_linked_into_the_namespace(name: str) -> None:
    link = ROOT / "hecompile" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


def test_a_wheel_has_every_folder_once() -> None:
    roots = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]["wheel"]["packages"]
    linked = {f"hecompile/{path.name}": path.name for path in (ROOT / "hecompile").iterdir() if path.is_symlink()}
    assert roots == {"hecompile": "hecompile", **linked}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_a_file_is_one_idea() -> None:
    findings = []
    for path in SOURCES:
        text = path.read_text()
        findings += [f"{path}: more than 300 lines"] if len(text.splitlines()) > 300 else []
        findings += [f"{path}: no docstring"] if text.strip() and not ast.get_docstring(tree_of(path)) else []
        findings += [f"{path}: a name that says nothing"] if path.stem in ("utils", "helpers", "common", "misc") else []
    assert not findings


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parent.name == "passes" and path.stem not in ("__init__", "base")]
)
def test_a_pass_is_found_by_one_grep(path: Path) -> None:
    classes = {node.name: node for node in tree_of(path).body if isinstance(node, ast.ClassDef)}
    name = "".join(word.capitalize() for word in path.stem.split("_"))
    assert name in classes
    assert "->" in (ast.get_docstring(classes[name]) or "")
    assert any((ROOT / "tests" / "golden" / path.stem.replace("_", "-")).glob("*.txt"))


def test_nothing_can_run_code_from_data() -> None:
    findings = []
    for path, node in nodes():
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            code = {"pickle", "marshal", "shelve", "dill", "joblib"} & {name.split(".")[0] for name in names}
            findings += [f"{path}:{node.lineno}: imports {name}" for name in sorted(code)]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            findings += [f"{path}:{node.lineno}: calls {called}"] if called in ("eval", "exec", "torch.load") else []
            findings += [f"{path}:{node.lineno}: a shell" for keyword in node.keywords if keyword.arg == "shell"]
    assert not findings


def test_the_library_does_not_print() -> None:
    calls = [(path, node) for path, node in nodes() if isinstance(node, ast.Call)]
    assert not [f"{path}:{call.lineno}" for path, call in calls if ast.unparse(call.func) == "print"]


def test_the_public_api() -> None:
    import hecompile

    assert hecompile.__all__ == [
        "CompileError", "CompileOptions", "Compiled", "EncryptedScheduler", "EncryptedUNet", "HecompileError", "InternalError",
        "ProtocolError", "compile", "compile_sampler", "load",
    ]  # fmt: skip
    for name in hecompile.__all__:
        assert getattr(hecompile, name).__doc__


def test_importing_is_cheap() -> None:
    code = "import hecompile, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert not {"torch", "diffusers", "onnx", "onnxruntime", "seal", "tenseal", "concrete", "numpy", "fastapi"} & set(loaded)


def test_the_version_is_one() -> None:
    import hecompile

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == hecompile.__version__


def test_the_makefile_does_what_the_readme_says() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= targets
    assert "make demo" in (ROOT / "README.md").read_text()
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()
