"""The chained network, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from hecompile.ir.graph import ModelGraph
from tests.backends.ckks.network import compiled


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, ModelGraph]:
    return compiled("ckks", tmp_path_factory.mktemp("ckks") / "chained.he")


@pytest.fixture(scope="session")
def chained(_compiled: tuple[Compiled, ModelGraph]) -> Compiled:
    """Under `ckks`, written to a folder."""
    return _compiled[0]


@pytest.fixture(scope="session")
def graph(_compiled: tuple[Compiled, ModelGraph]) -> ModelGraph:
    """The graph that was partitioned."""
    return _compiled[1]


@pytest.fixture
def folder(chained: Compiled) -> Path:
    """Where its artifact lies."""
    assert chained.artifact is not None
    return chained.artifact
