"""The server of `ckks` regions: it can neither make nor hold a secret key, and loads no training framework."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from hecompile.backends.base import Session


def test_the_server_imports_nothing_that_makes_keys() -> None:
    code = (
        "import sys; from hecompile.backends.registry import backend; from hecompile.backends.ckks import document, server; "
        "backend('ckks'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hecompile.backends.ckks.seal_engine" in loaded
    assert not {"hecompile.backends.ckks.secret", "hecompile.backends.ckks.client", "torch", "diffusers"} & set(loaded)


@pytest.mark.promise("no-key-at-the-server")
def test_a_session_has_no_field_for_a_secret() -> None:
    assert [field.name for field in fields(Session)] == ["identifier", "keys"]
    assert repr(Session("f" * 32, {"relin": b"key"})) == "Session()"
