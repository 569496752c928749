"""Golden files: text that a test must produce, one case per file. HECOMPILE_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """`text` equals `golden/<name>.txt`."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
