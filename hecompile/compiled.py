"""The result of compiling: the program, a record of every pass, and a way to load the artifact."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph
from hecompile.ir.regions import Program
from hecompile.options import CompileOptions

if TYPE_CHECKING:
    from hecompile.frontend.sources import Source
    from hecompile.runtime.client import EncryptedUNet
    from hecompile.runtime.transports import Transport

__all__ = ["Compiled", "PassEvent", "PassRecord"]


@dataclass(frozen=True)
class PassRecord:
    """What one pass did, and how long it took."""

    name: str
    seconds: float
    summary: str


class PassEvent(PassRecord):
    """What an observer gets after a pass: its record, and the programs before and after it, which must not be changed."""

    def __init__(self, record: PassRecord, before: Source | ModelGraph | Program, after: ModelGraph | Program) -> None:
        super().__init__(record.name, record.seconds, record.summary)
        self.before, self.after = before, after


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """The result of compiling: the last graph or program, the options, and a record of every pass.

    `artifact` is the folder that was written; None if nothing was.
    """

    program: ModelGraph | Program
    options: CompileOptions
    passes: tuple[PassRecord, ...]
    artifact: Path | None = None

    def load(self, server: str | Transport | None = None, **options: Any) -> EncryptedUNet:
        """Load the artifact as `hecompile.load` does. The policy is the one it was compiled under, unless `policy=` is given.

        Raises:
            CompileError: if nothing was written.
            ProtocolError, ServerGoneError: as `load`.
        """
        from hecompile.runtime.loading import load

        if self.artifact is None:
            raise CompileError(Diagnostic("nothing was written that could be loaded", help="give compile() a folder as its output"))
        return load(self.artifact, server, **{"policy": self.options.policy_name, **options})

    def summary(self) -> str:
        """Return a line for every pass: its name, its seconds and what it did."""
        return "\n".join(f"{record.name:<24} {record.seconds:7.2f} s  {record.summary}" for record in self.passes)

    def _facts(self) -> dict[str, str]:
        """Return the main facts about the compilation, by name, as texts."""
        program = self.program
        rounds = (
            {"rounds": f"{program.plan.rounds} a call"} if isinstance(program, Program) else {"stopped after": self.passes[-1].name}
        )
        return {
            "model": program.name,
            "policy": self.options.policy_name,
            "backend": self.options.backend,
            **rounds,
            "compiled in": f"{sum(record.seconds for record in self.passes):.1f} s",
            "artifact": "not written" if self.artifact is None else str(self.artifact),
        }

    def __repr__(self) -> str:
        return f"Compiled({', '.join(f'{name}={text!r}' for name, text in self._facts().items())})"

    def _repr_html_(self) -> str:
        rows = [*self._facts().items(), *((record.name, record.summary) for record in self.passes)]
        cells = "".join(f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
        return f"<table><caption>Compiled</caption><tbody>{cells}</tbody></table>"
