"""What a backend proposes: nodes of a graph that it can run as one piece, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

__all__ = ["Candidate", "Cost", "LayerPrice", "PartCost", "disjoint"]


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
    """Nodes that a backend can run as one piece, and what that costs at batch one. No path leaves the piece and returns.

    A piece is a single linear layer, with what is folded into it; or, if it is `whole`, several operations that one request
    answers and that are priced together. Pieces of one depth share a request, unless they need their `own_request`.
    """

    nodes: tuple[str, ...]
    cost: Cost
    backend: str
    depth: int = 1  # multiplications in a row
    whole: bool = False
    own_request: bool = False


@dataclass(frozen=True)
class LayerPrice:
    """One way to run a group of layers at the server, at some batch."""

    cost: Cost
    limit: int  # the largest integer that an encrypted value becomes
    encrypted: float = 1.0  # share of the input's entries that the server does not see
    shown_steps: float = 1.0  # of the rounding of those that it does see, on either side of zero


@dataclass(frozen=True)
class PartCost:
    """What a part of a lowered region costs: a layer, or all of it."""

    cost: Cost
    layers: int = 1
    macs: int = 0  # multiply-adds of the same in the clear, where they are known
    weights: int = 0  # bytes that the server keeps, where they are known


def disjoint(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that share no node with an earlier one."""
    taken, kept = set[str](), list[Candidate]()
    for each in candidates:
        if taken.isdisjoint(each.nodes):
            taken.update(each.nodes)
            kept.append(each)
    return kept
