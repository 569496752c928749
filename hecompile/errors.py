"""The three kinds of error, which differ by what is wrong.

`CompileError`: the user's model or options. `ProtocolError`: what the other side sent, or a file that may come from it.
`InternalError`: hecompile itself, a bug. The command line prints the first two without a traceback and exits with status 2.
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
    """One finding: what is wrong, where it is, and what to do about it."""

    message: str
    source: str = ""  # "unet.py:41"
    line: str = ""  # the text of the node that it is about
    underline: tuple[int, int] = (0, 0)  # the first column of `line` to underline, and the one behind the last
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
    """The base class of all errors that hecompile raises on purpose."""


class CompileError(HecompileError):
    """The model or the options cannot be compiled as they are. `diagnostics` has all findings."""

    def __init__(self, findings: str | Diagnostic | Iterable[Diagnostic]) -> None:
        if isinstance(findings, str):
            findings = [Diagnostic(findings)]
        elif isinstance(findings, Diagnostic):
            findings = [findings]
        self.diagnostics: tuple[Diagnostic, ...] = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.diagnostics))


class ProtocolError(HecompileError):
    """What was received or read from a file is not as its format says. `status` is the HTTP status to answer with.

    The message may quote what was received. Control characters in it are replaced by question marks.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        self.status = status
        super().__init__("".join(char if char.isprintable() or char == "\n" else "?" for char in message))


class InternalError(HecompileError):
    """A bug in hecompile: please report it with the traceback."""


class MissingExtraError(HecompileError):
    """A package of an optional extra is needed, but it is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'hecompile[{extra}]'")


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """A context in which a missing package raises a `MissingExtraError` that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hecompile":
            raise
        raise MissingExtraError(what, extra) from error


def unknown_name(kind: str, name: str, known: Sequence[str]) -> CompileError:
    """Return the error for an unknown name, which lists the known ones."""
    return CompileError(Diagnostic(f"there is no {kind} '{name}'", help=f"known: {', '.join(sorted(known))}"))
