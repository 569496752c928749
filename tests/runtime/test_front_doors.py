"""The two ways in, `load` and `EncryptedScheduler`, open the same way to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from hecompile.backends.region_client import RegionClient
from hecompile.compiler import Compiled
from hecompile.runtime.loading import load
from hecompile.runtime.transports import opening
from tests import sampling

URL = "http://127.0.0.1:9"


class Way:
    """A way to a server that nobody goes: it keeps what it was opened with."""

    opened: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, url: str, **options: Any) -> None:
        self.opened.append({"url": url, **options})

    def greet(self, digest: str) -> None:
        """Of servers from elsewhere, which tell nothing."""

    def close(self) -> None:
        """Nothing is open."""


def test_both_wait_for_the_slowest_region_and_show_the_same_token(
    tiny: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "HttpTransport", Way)
    monkeypatch.setattr(RegionClient, "timeout_s", 200.0)
    assert tiny.artifact is not None
    sampling.artifact(tmp_path / "sampler")
    load(tiny.artifact, URL, token="open-sesame")
    sampling.load(sampling.make("ddim"), tmp_path / "sampler", URL, token="open-sesame")
    unet, scheduler = Way.opened
    assert unet == scheduler
    assert (unet["url"], unet["timeout_s"], unet["access"].token) == (URL, 400.0, "open-sesame")
