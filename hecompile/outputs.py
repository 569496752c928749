"""Files that commands write, judged before the work is done for them."""

from __future__ import annotations

import os
from pathlib import Path

from hecompile.errors import CompileError, Diagnostic

__all__ = ["judge_file"]


def judge_file(path: Path) -> None:
    """Raise `CompileError` for a file that cannot be written: its folder is absent or closed, or it is a folder itself."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CompileError(Diagnostic(f"{path}: there is no folder {folder}", help="make it first, or choose another file"))
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise CompileError(Diagnostic(f"{path} cannot be written", help="choose another file"))
