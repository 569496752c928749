"""What a policy is: it decides which inputs are public, and which graphs and backends keep its promise."""

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
    """A promise to the owner of the data. The compiler asks `check_graph`; the client asks `allows_backend` when it loads."""

    name: str
    needs_encryption: bool  # whether every region at the server must be encrypted
    may_reveal: bool = False  # whether artifacts may reveal a part of secret values, rounded and listed in the manifest
    options: ClassVar[type[Panel]] = NoOptions  # the policy's own options

    def configured(self, panel: Panel) -> Policy:
        """Return the policy with these values of its options. Raises `CompileError` if an option that it needs was not given."""
        return self

    def allows_backend(self, backend: Backend) -> bool:
        """Return whether regions may run under this backend. The client asks this for every region that it loads."""
        return backend.guarantee.encrypts or not self.needs_encryption

    @abstractmethod
    def is_public(self, spec: InputSpec) -> bool:
        """Return whether the server may see this input."""

    @abstractmethod
    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        """Return one finding for every way in which the partitioned graph breaks the promise; none if it keeps it."""
