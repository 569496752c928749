"""What a pass is: a frozen dataclass with a name and a method that gets a program and returns one.

Programs are graphs before the pass `split`, and plans with regions after it. A pass never changes its argument, and returns it if
there is nothing to do. A new pass is a file of its own and a line of `hecompile.compiler.pipeline`, or of its backend's lowering.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.regions import AnyCall, Program
from hecompile.progress import tell

__all__ = ["Pass", "RegionPass", "named"]

Before = TypeVar("Before")
After = TypeVar("After")


def named(kind: type) -> str:
    """Return the name of a pass from its class: `mark-secrets` for `MarkSecrets`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


@dataclass(frozen=True)
class Pass(ABC, Generic[Before, After]):
    """A step of the compiler. The first line of a pass's docstring is its help on the command line."""

    @property
    def name(self) -> str:
        """The class's name in lower case, its words joined by hyphens."""
        return named(type(self))

    @property
    def help(self) -> str:
        """The first line of the class's docstring, as help texts print it."""
        return (type(self).__doc__ or "").strip().split("\n")[0]

    @property
    def canonical(self) -> bool:
        """Whether all operations of the graph that this pass returns are in the op table."""
        return True

    @property
    def needs_weights(self) -> bool:
        """Whether this pass reads the model's weights, so that it cannot run on a model that has shapes alone."""
        return False

    @abstractmethod
    def run(self, program: Before) -> After:
        """Return the program after the pass. Raises `CompileError` for what the user can change, `InternalError` for our own
        faults."""

    def compare(self, before: Before, after: After) -> bool:
        """Compare the programs before and after a pass that changes results by design, by a bound of its own.

        Returns True if it did; False leaves the comparison to the compiler.

        Raises:
            InternalError: if the results differ by more than the bound.
        """
        return False

    def summary(self, before: Before, after: After) -> str:
        """Return one line on what changed, for the log."""
        return "nothing to do" if after is before else "done"


@dataclass(frozen=True)
class RegionPass(Pass[Program, Program]):
    """A step of a backend's lowering. It changes the regions of that backend and leaves all others as they are."""

    backend: str

    @abstractmethod
    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        """Return a function that changes one region of this program. It raises `CompileError` for what the user can change."""

    def run(self, program: Program) -> Program:
        """Return the program with all regions of the backend changed. Raises one `CompileError` with the findings of all
        regions."""
        if all(region.backend != self.backend for region in program.calls.values()):
            return program
        change, findings, done, total = self.on(program), list[Diagnostic](), count(1), len(program.calls)

        def one(region: AnyCall) -> AnyCall:
            if region.backend != self.backend:
                return region
            try:
                return change(region)
            except CompileError as error:
                findings.extend(error.diagnostics)
                return region
            finally:
                tell(self.name, next(done), total)

        result = program.with_calls(one)
        if findings:
            raise CompileError(findings)
        return result
