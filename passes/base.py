"""What a pass is: a frozen dataclass with a name and one method.

`Pass.run` takes a program and returns a program; a pass with nothing to do returns its argument. Adding a pass touches its own
file and one line of `hecompile.compiler.pipeline`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Pass"]

Before = TypeVar("Before")
After = TypeVar("After")


@dataclass(frozen=True)
class Pass(ABC, Generic[Before, After]):
    """A step of the compiler. The first line of a pass's docstring is its help on the command line."""

    @property
    def name(self) -> str:
        """`MarkSecrets` is printed as `mark-secrets`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()

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
