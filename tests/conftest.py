"""Artifacts that many tests read, compiled once."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.networks import Tiny, tiny_inputs


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files all of whose tests `-m "not ..."` deselects: importing some takes as long as a hundred quick tests."""
    expression: str = config.option.markexpr
    if collection_path.suffix != ".py" or not re.fullmatch(r"(not )?\w+( and (not )?\w+)*", expression):
        return None
    marks = re.search(r"^pytestmark = (.*?)\n\n", collection_path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    left_out = set(re.findall(r"not (\w+)", expression))
    return True if marks and left_out & set(re.findall(r"mark\.(\w+)", marks[1])) else None


def pytest_collection_finish() -> None:
    """Keep what was imported out of every search for garbage: in processes as large as these it is a fifth of all work."""
    gc.collect()
    gc.freeze()


def _tiny(backend: str) -> Compiled:
    return compile_once(Tiny, CompileOptions(backend=backend, max_batch=3), tiny_inputs())


def _digits(backend: str) -> Path:
    artifact = compile_once("digits", CompileOptions(backend=backend)).artifact
    assert artifact is not None
    return artifact


@pytest.fixture(scope="session")
def tiny() -> Compiled:
    """`Tiny` under `bfv`."""
    return _tiny("bfv")


@pytest.fixture(scope="session")
def tiny_clear() -> Compiled:
    """`Tiny` under `clear`."""
    return _tiny("clear")


@pytest.fixture(scope="session")
def tiny_concrete() -> Compiled:
    """`Tiny` under `concrete`."""
    return _tiny("concrete")


@pytest.fixture(scope="session")
def digits() -> Path:
    """The digits model under `bfv`."""
    return _digits("bfv")


@pytest.fixture(scope="session")
def digits_clear() -> Path:
    """The digits model under `clear`."""
    return _digits("clear")
