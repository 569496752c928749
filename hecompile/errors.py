"""The three kinds of error, told apart by whose fault they are.

`CompileError`: the user's model or options. `ProtocolError`: the other side of the wire, or a file that came from it.
`InternalError`: ours, a bug. The command line prints the first two without a traceback and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = [
    "CompileError",
    "Diagnostic",
    "HecompileError",
    "InternalError",
    "MissingExtraError",
    "ProtocolError",
    "needing",
    "unknown_name",
]


@dataclass(frozen=True)
class Diagnostic:
    """One finding: where it is, what is wrong, what helps."""

    message: str
    source: str = ""  # "unet.py:41"
    line: str = ""  # the node, as the graph is printed
    underline: tuple[int, int] = (0, 0)  # columns of `line` to mark, half open
    help: str = ""

    def __str__(self) -> str:
        rows = [f"{self.source}: error: {self.message}" if self.source else f"error: {self.message}"]
        if self.line:
            rows.append(f"  {self.line}")
            start, stop = self.underline
            if stop > start:
                rows.append("  " + " " * start + "^" * (stop - start))
        if self.help:
            rows.append(f"  help: {self.help}")
        return "\n".join(rows)


class HecompileError(Exception):
    """Base of every error that hecompile raises on purpose."""


class CompileError(HecompileError):
    """The model or the options cannot be compiled as they are. Holds every finding, not only the first."""

    def __init__(self, findings: str | Diagnostic | Iterable[Diagnostic]) -> None:
        if isinstance(findings, str):
            findings = [Diagnostic(findings)]
        elif isinstance(findings, Diagnostic):
            findings = [findings]
        self.diagnostics: tuple[Diagnostic, ...] = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.diagnostics))


class ProtocolError(HecompileError):
    """What came over the wire or from disk is not what the format says. `status` is the HTTP status that fits.

    The message may quote what came: characters that a terminal would obey are shown as question marks.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        self.status = status
        super().__init__("".join(char if char.isprintable() or char == "\n" else "?" for char in message))


class InternalError(HecompileError):
    """A bug in hecompile: please report it with the traceback."""


class MissingExtraError(HecompileError):
    """A package of an optional extra is needed and absent."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'hecompile[{extra}]'")


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Within it, a package that is not installed is a `MissingExtraError` that names the extra which brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hecompile":
            raise
        raise MissingExtraError(what, extra) from error


def unknown_name(kind: str, name: str, known: Sequence[str]) -> CompileError:
    """The error for a name that is not registered; lists the right ones."""
    return CompileError(Diagnostic(f"there is no {kind} '{name}'", help=f"known: {', '.join(sorted(known))}"))
