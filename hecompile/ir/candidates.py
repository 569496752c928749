"""What a backend proposes to run: candidates, which are sets of nodes of a graph, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

__all__ = ["Candidate", "Cost", "Kept", "LayerPrice", "PartCost", "disjoint", "kept_within"]

HALVINGS = 40  # of the interval in which the price of a byte lies, so that it is known to one part in 10^12


@dataclass(frozen=True)
class Cost:
    """What it costs to run a piece of the graph. Costs of several pieces add up.

    `error_var` is the variance of the error that the piece adds to its outputs, relative to the outputs' own variance. `revealed`
    counts secret entries that the server sees.
    """

    server_s: float = 0.0  # CPU seconds of the server
    client_s: float = 0.0  # CPU seconds of the client
    up_bytes: int = 0
    down_bytes: int = 0
    key_bytes: int = 0  # evaluation keys kept by the server
    peak_mib: float = 0.0  # summed, not maximised: an upper bound that stays additive
    rounds: int = 0
    error_var: float = 0.0
    revealed: int = 0

    @property
    def sent_bytes(self) -> int:
        """Bytes sent in both directions."""
        return self.up_bytes + self.down_bytes

    def over(self, calls: int) -> Cost:
        """Return the cost of each of `calls` calls that share one such piece: seconds and bytes are divided, the rest is
        unchanged."""
        up_bytes, down_bytes = round(self.up_bytes / calls), round(self.down_bytes / calls)
        server_s, client_s = self.server_s / calls, self.client_s / calls
        return replace(self, server_s=server_s, client_s=client_s, up_bytes=up_bytes, down_bytes=down_bytes)

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, amount.name) + getattr(other, amount.name) for amount in fields(Cost)))


@dataclass(frozen=True)
class Candidate:
    """Nodes that a backend can run as one piece, and what that costs at batch one. No path of the graph leaves a piece and returns.

    A piece is one linear layer with the nodes that are folded into it. If it is `whole`, it has several operations, which one
    request answers and which are priced together. Pieces of one depth share a request, except those with `own_request`.
    """

    nodes: tuple[str, ...]
    cost: Cost
    backend: str
    depth: int = 1  # multiplications in a row
    whole: bool = False
    own_request: bool = False


@dataclass(frozen=True)
class Kept:
    """What requests cost if the client keeps a part of the first reply and uses it for `requests` requests of a sampling run."""

    first: Cost
    later: Cost
    client_bytes: int
    requests: int
    region_bytes: int = 0  # further bytes of a request, counted once for all parts of a region that are kept so
    ordered: int = 0  # bytes of the copy of the weights that the server keeps in the order of its computation

    def mean_of(self, amount: Callable[[Cost], float]) -> float:
        """Return one amount of a cost, such as its bytes, averaged over the requests of the run."""
        return (amount(self.first) + (self.requests - 1) * amount(self.later)) / self.requests

    @property
    def mean(self) -> Cost:
        """The first request's cost with seconds and bytes averaged over the requests of the run."""
        up_bytes, down_bytes = (
            round(self.mean_of(amount)) for amount in (lambda cost: cost.up_bytes, lambda cost: cost.down_bytes)
        )
        server_s, client_s = (self.mean_of(amount) for amount in (lambda cost: cost.server_s, lambda cost: cost.client_s))
        return replace(self.first, server_s=server_s, client_s=client_s, up_bytes=up_bytes, down_bytes=down_bytes)


@dataclass(frozen=True)
class LayerPrice:
    """The cost of one way to run a group of layers at the server, at some batch size."""

    cost: Cost
    limit: int  # the largest integer that an encrypted entry is quantised to
    encrypted: float = 1.0  # share of the input's entries that are encrypted
    revealed_steps: float = 1.0  # the largest integer that a revealed entry is rounded to
    kept: tuple[Kept, ...] = ()  # the costs if the client keeps a part of the first reply for a run
    ordered: int = 0  # see `Kept.ordered`


@dataclass(frozen=True)
class PartCost:
    """What a part of a lowered region costs. A part is one layer, or the whole region."""

    cost: Cost
    layers: int = 1
    macs: int = 0  # multiply-adds without encryption; 0 if unknown
    weights: int = 0  # bytes of weights that the server keeps; 0 if unknown
    ordered: int = 0  # see `Kept.ordered`
    kept: Kept | None = None  # if the client keeps a part of the first reply for a run; `cost` is then that of a first request


def kept_within(offers: Sequence[Sequence[tuple[float, int]]], most_bytes: int) -> dict[int, int]:
    """Choose at most one offer for every place, for a large total gain within `most_bytes`. An offer is a gain and its bytes.

    A price for a byte is found by halving, the least at which all offers fit whose gain exceeds their price. The bytes that are
    left are filled with further offers, those with the largest gain per byte first. Returns the number of the offer by place.
    """

    def taken_at(price: float) -> dict[int, int]:
        best = {
            place: max(range(len(choices)), key=lambda n: choices[n][0] - price * choices[n][1])
            for place, choices in enumerate(offers)
            if choices
        }
        return {place: n for place, n in best.items() if offers[place][n][0] > price * offers[place][n][1]}

    def size(taken: Mapping[int, int]) -> int:
        return sum(offers[place][n][1] for place, n in taken.items())

    dearest = max((gain / max(bytes_, 1) for choices in offers for gain, bytes_ in choices), default=0.0)
    low, high = 0.0, 2 * dearest  # no offer is worth the upper price
    if size(taken_at(low)) <= most_bytes:
        return taken_at(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if size(taken_at(middle)) <= most_bytes else (middle, high)
    taken = taken_at(high)
    rest = [(gain / max(bytes_, 1), place, n) for place, choices in enumerate(offers) for n, (gain, bytes_) in enumerate(choices)]
    for gain, place, n in sorted(rest, reverse=True):
        if gain > 0 and place not in taken and size(taken) + offers[place][n][1] <= most_bytes:
            taken[place] = n
    return taken


def disjoint(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that share no node with an earlier candidate."""
    taken, kept = set[str](), list[Candidate]()
    for candidate in candidates:
        if taken.isdisjoint(candidate.nodes):
            taken.update(candidate.nodes)
            kept.append(candidate)
    return kept
