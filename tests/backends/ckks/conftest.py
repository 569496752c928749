"""The chained network, compiled once."""

from __future__ import annotations

import pytest

from hecompile.compiler import Compiled
from tests.backends.ckks.network import compiled


@pytest.fixture(scope="session")
def chained() -> Compiled:
    """Under `ckks`."""
    return compiled("ckks")
