"""What a backend proposes: nodes of a graph that it can run as one piece, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

__all__ = ["Candidate", "Cost", "Kept", "LayerPrice", "PartCost", "disjoint", "kept_within"]

HALVINGS = 40  # of a price, until it is known to a part in 10^12


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

    @property
    def sent_bytes(self) -> int:
        """Both ways."""
        return self.up_bytes + self.down_bytes

    def over(self, calls: int) -> Cost:
        """Seconds and bytes of each of so many calls that share this cost; the rest is as it was."""
        up_bytes, down_bytes = round(self.up_bytes / calls), round(self.down_bytes / calls)
        server_s, client_s = self.server_s / calls, self.client_s / calls
        return replace(self, server_s=server_s, client_s=client_s, up_bytes=up_bytes, down_bytes=down_bytes)

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
class Kept:
    """What requests cost where the client keeps a part of the first reply for `requests` of a run."""

    first: Cost
    later: Cost
    client_bytes: int
    requests: int
    region_bytes: int = 0  # that a request takes besides, once for all such parts of a region
    ordered: int = 0  # bytes that the server keeps beside the weights: the same in another order

    def mean_of(self, amount: Callable[[Cost], float]) -> float:
        """An amount of a request's cost, on average over the run."""
        return (amount(self.first) + (self.requests - 1) * amount(self.later)) / self.requests

    @property
    def mean(self) -> Cost:
        """Seconds and bytes of a request on average over the run; the rest is the first one's."""
        up_bytes, down_bytes = (
            round(self.mean_of(amount)) for amount in (lambda cost: cost.up_bytes, lambda cost: cost.down_bytes)
        )
        server_s, client_s = (self.mean_of(amount) for amount in (lambda cost: cost.server_s, lambda cost: cost.client_s))
        return replace(self.first, server_s=server_s, client_s=client_s, up_bytes=up_bytes, down_bytes=down_bytes)


@dataclass(frozen=True)
class LayerPrice:
    """One way to run a group of layers at the server, at some batch."""

    cost: Cost
    limit: int  # the largest integer that an encrypted value becomes
    encrypted: float = 1.0  # share of the input's entries that the server does not see
    shown_steps: float = 1.0  # of the rounding of those that it does see, on either side of zero
    kept: tuple[Kept, ...] = ()  # what it costs instead where the client keeps a part of replies for a run
    ordered: int = 0  # as of `Kept`


@dataclass(frozen=True)
class PartCost:
    """What a part of a lowered region costs: a layer, or all of it."""

    cost: Cost
    layers: int = 1
    macs: int = 0  # multiply-adds of the same in the clear, where they are known
    weights: int = 0  # bytes that the server keeps, where they are known
    ordered: int = 0  # and of the same in another order
    kept: Kept | None = None  # for a part of whose replies something is kept for a run; `cost` is that of a first request then


def kept_within(offers: Sequence[Sequence[tuple[float, int]]], most_bytes: int) -> dict[int, int]:
    """Which one of its offers every place takes, if any, for the largest gain: each is a gain and the bytes that it takes.

    A byte is given the least price at which what is worth it fits, by halving; what is left is filled with the best that fits.
    """

    def taken_at(price: float) -> dict[int, int]:
        best = {
            place: max(range(len(each)), key=lambda n: each[n][0] - price * each[n][1]) for place, each in enumerate(offers) if each
        }
        return {place: n for place, n in best.items() if offers[place][n][0] > price * offers[place][n][1]}

    def size(taken: Mapping[int, int]) -> int:
        return sum(offers[place][n][1] for place, n in taken.items())

    low, high = 0.0, 2 * max((gain / max(size, 1) for each in offers for gain, size in each), default=0.0)  # nothing is worth that
    if size(taken_at(low)) <= most_bytes:
        return taken_at(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if size(taken_at(middle)) <= most_bytes else (middle, high)
    taken = taken_at(high)
    rest = [(gain / max(bytes_, 1), place, n) for place, each in enumerate(offers) for n, (gain, bytes_) in enumerate(each)]
    for gain, place, n in sorted(rest, reverse=True):
        if gain > 0 and place not in taken and size(taken) + offers[place][n][1] <= most_bytes:
            taken[place] = n
    return taken


def disjoint(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that share no node with an earlier one."""
    taken, kept = set[str](), list[Candidate]()
    for each in candidates:
        if taken.isdisjoint(each.nodes):
            taken.update(each.nodes)
            kept.append(each)
    return kept
