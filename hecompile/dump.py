"""The program after every pass as text, a file each, for whoever wants to see what the compiler did."""

from __future__ import annotations

import os
from pathlib import Path

from hecompile.artifact_writing import judge_target
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph
from hecompile.ir.program_printing import program_text
from hecompile.ir.regions import Program
from hecompile.outputs import reason_of, write_file

__all__ = ["Dump"]


class Dump:
    """A folder of `00-trace.txt`, `01-canonicalize.txt` and so on; it is made with the first file.

    Weights, examples and ciphertexts are told by their shapes only. The same model and options give the same texts. If a pass
    refuses the model, the texts of the passes before it stay.
    """

    def __init__(self, folder: Path, artifact: Path | None = None) -> None:
        """Judge the folder before the work is done.

        Raises:
            CompileError: unless it is new or empty, can be written to, and lies apart from `artifact` and any other artifact.
        """
        try:
            reason = _why_not(folder, artifact)
        except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
            reason = f"cannot be written: {reason_of(error)}"
        if reason:
            shown = str(folder) if str(folder).isprintable() else repr(str(folder))
            raise CompileError(Diagnostic(f"{shown} {reason}", help="choose another folder for the program's texts"))
        judge_target(folder)
        self._folder, self._written = folder, 0

    def write(self, name: str, program: ModelGraph | Program) -> None:
        """Write the program after the pass of this name. Raises `CompileError` if it cannot be written; no file is half written."""
        path = self._folder / f"{self._written:02d}-{name}.txt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompileError(f"{self._folder} cannot be written: {reason_of(error)}") from error
        write_file(path, program_text(program).encode())
        self._written += 1


def _why_not(folder: Path, artifact: Path | None) -> str:
    """What keeps texts from being written there, or an empty string."""
    if os.path.lexists(folder) and not folder.is_dir():
        return "exists and is no folder"
    if folder.is_dir() and any(folder.iterdir()):
        return "is not empty"
    if artifact is not None:
        place, other = Path(os.path.realpath(folder)), Path(os.path.realpath(artifact))
        if place == other or place in other.parents or other in place.parents:
            return f"and the artifact {artifact} lie in each other"
    return ""
