"""What a backend is told about a compilation: speeds, limits, its own options, and what other backends propose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hecompile.errors import InternalError
from hecompile.ir.candidates import Candidate
from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine

__all__ = ["Context"]

Panel = TypeVar("Panel")


@dataclass(frozen=True)
class Context:
    """What backends are told about one compilation. It is the same for all of them.

    Args:
        priced: whether candidates are chosen by cost. Then candidates larger than a layer have a price, and those that cannot
            run are left out.
        panels: the backends' own options, by their class.
        proposals: returns what another backend proposes for a graph, by its name.
    """

    machine: Machine = field(default_factory=Machine)
    max_batch: int = 1
    security_bits: int = 128
    priced: bool = False
    panels: Mapping[type, object] = field(default_factory=dict)
    proposals: Callable[[str, ModelGraph, Context], list[Candidate]] | None = None

    def panel(self, kind: type[Panel]) -> Panel:
        """The options of this class as the user gave them, or their defaults."""
        given = self.panels.get(kind)
        if given is None:
            return kind()
        if not isinstance(given, kind):
            raise InternalError(f"options of {kind.__name__} are a {type(given).__name__}")
        return given

    def propose(self, name: str, graph: ModelGraph) -> list[Candidate]:
        """What the backend of this name proposes for the rest of a graph; empty if no other backends are known."""
        return [] if self.proposals is None else self.proposals(name, graph, self)
