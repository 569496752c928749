"""What attacks change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hecompile.compiler import Compiled


@pytest.fixture
def artifact(tmp_path: Path, tiny: Compiled) -> Path:
    """`Tiny` under `bfv`, to be changed."""
    assert tiny.artifact is not None
    return Path(shutil.copytree(tiny.artifact, tmp_path / "artifact"))
