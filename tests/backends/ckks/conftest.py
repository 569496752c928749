"""The chained network, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from tests.backends.ckks.network import compiled


@pytest.fixture(scope="session")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Under `ckks`, written to a folder."""
    return compiled("ckks", tmp_path_factory.mktemp("ckks") / "chained.he")


@pytest.fixture
def folder(chained: Compiled) -> Path:
    """Where its artifact lies."""
    assert chained.artifact is not None
    return chained.artifact
