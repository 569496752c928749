"""What a policy decides: which inputs are public, and which graphs and artifacts keep its promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from hecompile.panels import NoOptions, Panel

if TYPE_CHECKING:
    from hecompile.backends.base import Backend
    from hecompile.errors import Diagnostic
    from hecompile.ir.graph import InputSpec, ModelGraph

__all__ = ["Policy"]


class Policy(ABC):
    """A promise to the owner of the data. `check_graph` is asked at compile time, `allows_backend` again by the client at load."""

    name: str
    needs_encryption: bool
    may_reveal: bool = False  # whether artifacts may show secrets in part, declared and rounded
    options: ClassVar[type[Panel]] = NoOptions  # what a user may choose about it

    def configured(self, panel: Panel) -> Policy:
        """The policy with what its panel of options says; itself unless it has some. Raises `CompileError` for what is missing."""
        return self

    def allows_backend(self, backend: Backend) -> bool:
        """Whether a region may be of this backend; asked by the client of every region that it loads."""
        return backend.guarantee.encrypts or not self.needs_encryption

    @abstractmethod
    def is_public(self, spec: InputSpec) -> bool:
        """Whether the server may see this input."""

    @abstractmethod
    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        """Every way in which the partitioned graph breaks the promise."""
