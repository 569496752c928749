"""Artifacts that many tests read, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.compiler import Compiled, compile_model
from hecompile.options import CompileOptions
from tests.networks import Tiny, tiny_inputs


def _tiny(folder: Path, backend: str) -> Compiled:
    return compile_model(Tiny().eval(), folder, options=CompileOptions(backend=backend, max_batch=3), example_inputs=tiny_inputs())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """`Tiny` under `bfv`."""
    return _tiny(tmp_path_factory.mktemp("artifacts") / "tiny", "bfv")


@pytest.fixture(scope="session")
def tiny_clear(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """`Tiny` under `clear`."""
    return _tiny(tmp_path_factory.mktemp("artifacts") / "tiny-clear", "clear")


@pytest.fixture(scope="session")
def tiny_concrete(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """`Tiny` under `concrete`."""
    return _tiny(tmp_path_factory.mktemp("artifacts") / "tiny-concrete", "concrete")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model under `bfv`."""
    folder = tmp_path_factory.mktemp("artifacts") / "digits"
    compile_model("digits", folder)
    return folder


@pytest.fixture(scope="session")
def digits_clear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model under `clear`."""
    folder = tmp_path_factory.mktemp("artifacts") / "digits-clear"
    compile_model("digits", folder, options=CompileOptions(backend="clear"))
    return folder
