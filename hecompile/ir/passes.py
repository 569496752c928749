"""What a pass is: a frozen dataclass with a name and one method.

A pass gets a program and returns one: the graph before `split`, the plan with its regions after it. It never changes what it was
given, and returns its argument if there is nothing to do. Adding one touches its own file and one line of
`hecompile.compiler.pipeline`; a pass of a backend's own lowering, its own file and one line of that backend.
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
    """The name of a pass by its class: `MarkSecrets` is printed as `mark-secrets`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


@dataclass(frozen=True)
class Pass(ABC, Generic[Before, After]):
    """A step of the compiler. The first line of a pass's docstring is its help on the command line."""

    @property
    def name(self) -> str:
        """The class's name in small letters, its words joined by hyphens."""
        return named(type(self))

    @property
    def help(self) -> str:
        """One line for people: the first of the class's docstring."""
        return (type(self).__doc__ or "").strip().split("\n")[0]

    @property
    def canonical(self) -> bool:
        """Whether every operation of a graph after this pass is one of the op table."""
        return True

    @property
    def needs_weights(self) -> bool:
        """Whether this pass reads numbers of the model, so that a model of shapes alone cannot go through it."""
        return False

    @abstractmethod
    def run(self, program: Before) -> After:
        """The program after the pass. Raises `CompileError` for what the user can mend."""

    def compare(self, before: Before, after: After) -> bool:
        """For a pass that changes numbers by design: compares the two by the bound that it states, and says that it did.

        Raises:
            InternalError: if they are farther apart than that.
        """
        return False

    def summary(self, before: Before, after: After) -> str:
        """One line on what changed, for the log."""
        return "nothing to do" if after is before else "done"


@dataclass(frozen=True)
class RegionPass(Pass[Program, Program]):
    """A step of a backend's lowering: it changes the regions of that backend and leaves the others as they are."""

    backend: str

    @abstractmethod
    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        """What the step does with one region of this program, which raises `CompileError` for what the user can mend."""

    def run(self, program: Program) -> Program:
        """All regions of the backend. Raises `CompileError` with the findings of all of them."""
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
