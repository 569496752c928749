"""Artifacts that many tests read, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.networks import Tiny, tiny_inputs


def _tiny(backend: str) -> Compiled:
    return compile_once(Tiny, CompileOptions(backend=backend, max_batch=3), tiny_inputs())


def _digits(backend: str) -> Path:
    found = compile_once("digits", CompileOptions(backend=backend)).artifact
    assert found is not None
    return found


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
