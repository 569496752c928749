"""What a backend proposes: nodes of a graph that it can run as one piece, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

__all__ = ["Candidate", "Cost", "disjoint"]


@dataclass(frozen=True)
class Cost:
    """What a piece costs, additive over pieces. `error_var` is the variance that it adds to its outputs relative to their own,
    `released` the secret entries shown in clear."""

    server_s: float = 0.0  # CPU seconds of the server
    client_s: float = 0.0  # CPU seconds of the client
    up_bytes: int = 0
    down_bytes: int = 0
    key_bytes: int = 0  # evaluation keys kept by the server
    peak_mib: float = 0.0  # summed, not maximised: an upper bound that stays additive
    rounds: int = 0
    error_var: float = 0.0
    released: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Cost)))


@dataclass(frozen=True)
class Candidate:
    """Nodes that a backend can run as one piece, and what that costs at batch one. No path leaves the piece and returns."""

    nodes: tuple[str, ...]
    cost: Cost
    backend: str
    depth: int = 1  # multiplications in a row


def disjoint(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that share no node with an earlier one."""
    taken, kept = set[str](), list[Candidate]()
    for each in candidates:
        if taken.isdisjoint(each.nodes):
            taken.update(each.nodes)
            kept.append(each)
    return kept
