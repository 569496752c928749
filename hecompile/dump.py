"""Writes the text of the program after every pass, one file for each, as `--dump-ir` asks for."""

from __future__ import annotations

import os
from pathlib import Path

from hecompile.artifact_writing import check_target
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph
from hecompile.ir.program_printing import program_text
from hecompile.ir.regions import Program
from hecompile.outputs import reason_of, write_file

__all__ = ["Dump"]


class Dump:
    """A folder of files named `00-trace.txt`, `01-canonicalize.txt` and so on, which is made with the first file.

    The texts have the shapes of weights, examples and ciphertexts, never their numbers. The same model and options give the same
    texts. If a pass refuses the model, the texts of the passes before it stay.
    """

    def __init__(self, folder: Path, artifact: Path | None = None) -> None:
        """Check the folder, before any work is done.

        Raises:
            CompileError: if it is not empty, cannot be written, holds `artifact` or lies in it or in another artifact.
        """
        try:
            reason = _why_not(folder, artifact)
        except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
            reason = f"cannot be written: {reason_of(error)}"
        if reason:
            name = str(folder) if str(folder).isprintable() else repr(str(folder))
            raise CompileError(Diagnostic(f"{name} {reason}", help="choose another folder for the program's texts"))
        check_target(folder)
        self._folder, self._written = folder, 0

    def write(self, name: str, program: ModelGraph | Program) -> None:
        """Write the program after the pass `name` as text. Raises `CompileError`, and writes nothing, if that is not possible."""
        path = self._folder / f"{self._written:02d}-{name}.txt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompileError(f"{self._folder} cannot be written: {reason_of(error)}") from error
        write_file(path, program_text(program).encode())
        self._written += 1


def _why_not(folder: Path, artifact: Path | None) -> str:
    """Return why no texts can be written to this folder; empty if they can."""
    if os.path.lexists(folder) and not folder.is_dir():
        return "exists and is no folder"
    if folder.is_dir() and any(folder.iterdir()):
        return "is not empty"
    if artifact is not None:
        place, other = Path(os.path.realpath(folder)), Path(os.path.realpath(artifact))
        if place == other or place in other.parents or other in place.parents:
            return f"and the artifact {artifact} must not be the same folder, or one within the other"
    return ""
