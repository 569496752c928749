"""Every python block of README.md, of docs/ and of the notebooks runs, in order, in an empty folder, as a reader would run it."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hecompile
from tests.docs.blocks import DOCUMENTS, NOTEBOOKS, ROOT, Block, blocks, of_language

# these two run from top to bottom, servers included, in tests/test_newcomer.py
NEWCOMERS = {ROOT / "README.md", ROOT / "docs" / "quickstart.md"}
# documents whose blocks take longer than ten seconds
SLOW = {"docs/calling.md", "docs/demo.md", "docs/writing-a-backend.md", "docs/writing-a-policy.md", "docs/writing-a-transport.md"}
# blocks that need what a test has not, each with the reason; they are parsed, and their calls fit the functions
NOT_RUN = {"model.he": "a server with a certificate and a token of its own"}
LANGUAGES = {"python", "bash", "text", "yaml", "{toctree}", "{eval-rst}"}


def is_run(block: Block) -> bool:
    return not any(f'"{mark}"' in block.text for mark in NOT_RUN)


PYTHON = [path for path in (*DOCUMENTS, *NOTEBOOKS) if path not in NEWCOMERS and of_language(path, "python")]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_block_says_its_language(path: Path) -> None:
    odd = [
        f"{block.name}: {block.language!r}"
        for block in blocks(path)
        if block.language not in LANGUAGES and not block.language.startswith("{literalinclude} ")
    ]
    assert odd == []


@pytest.mark.parametrize("path", [path for path in PYTHON if named(path) not in SLOW], ids=named)
def test_the_python_of_a_document_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    names: dict[str, object] = {"__name__": "__main__"}
    run(program(path), names)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PYTHON if named(path) in SLOW], ids=named)
def test_the_python_of_a_slow_document_runs(path: Path, tmp_path: Path) -> None:
    """In a process of its own: these documents register backends and policies, which other tests would find."""
    programs = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    own = {
        "PATH": programs,
        "PYTHONPATH": str(ROOT / "examples"),
        "HECOMPILE_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-W", "error:::hecompile", "-c", program(path)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_blocks_that_are_not_run_are_few_and_have_reasons() -> None:
    left_out = [block for path in PYTHON for block in of_language(path, "python") if not is_run(block)]
    assert len(left_out) == len(NOT_RUN)


def test_calls_of_blocks_that_are_not_run_fit_the_functions() -> None:
    calls = 0
    for block in (block for path in PYTHON for block in of_language(path, "python") if not is_run(block)):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("hecompile."):
                function = getattr(hecompile, ast.unparse(node.func).removeprefix("hecompile."))
                inspect.signature(function).bind(*node.args, **{str(keyword.arg): keyword.value for keyword in node.keywords})
                calls += 1
    assert calls >= len(NOT_RUN)


def test_slow_documents_exist() -> None:
    assert {named(path) for path in PYTHON} >= SLOW


def test_the_newcomers_documents_are_those_of_the_newcomers_test() -> None:
    from tests import test_newcomer

    assert {test_newcomer.README, test_newcomer.QUICKSTART} == NEWCOMERS


def program(path: Path) -> str:
    """The blocks of a document that run, one below the other, each on its own lines."""
    result = ""
    for block in of_language(path, "python"):
        if is_run(block):
            result += "\n" * (block.line - result.count("\n")) + block.text
    return result


def run(text: str, names: dict[str, object]) -> None:
    """The documents are ours: running what they say is the point."""
    exec(compile(text, "document", "exec"), names)
