"""The network `WithPolynomials`, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hecompile.compiler import Compiled
from hecompile.ir.graph import ModelGraph
from tests.backends.ckks.network import compiled


@pytest.fixture(scope="session")
def with_polynomials() -> Compiled:
    """Under `ckks`, written to a folder."""
    return compiled("ckks")[0]


@pytest.fixture(scope="session")
def graph() -> ModelGraph:
    """The graph that was partitioned."""
    return compiled("ckks")[1]


@pytest.fixture
def folder(with_polynomials: Compiled) -> Path:
    """Where its artifact lies."""
    assert with_polynomials.artifact is not None
    return with_polynomials.artifact
