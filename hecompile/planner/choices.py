"""The ways in which a layer can run, each with its cost: what the optimiser chooses from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hecompile.backends.registry import backend
from hecompile.ir.candidates import Cost, LayerPrice
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.layer_groups import Stack, macs_of, weights_of
from hecompile.ir.linear import Pair
from hecompile.ir.tiles import Tiles, cut_of
from hecompile.machine import Machine
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.local import LocalWork

__all__ = ["SHARES", "Option", "Reveal", "ladder", "options_of"]

SHARES = (0.75, 0.5, 0.25)  # of a layer's channels encrypted, under a revealing policy
REVEAL_BITS = 8


@dataclass(frozen=True)
class Reveal:
    """A layer that shows a part of its input: so many channels stay encrypted, entries of the others are released with `bits` bits.

    With `tiles`, rows and columns of them, so many tiles of the picture instead.
    """

    encrypted: int
    bits: int = REVEAL_BITS
    tiles: Pair | None = None

    def split(self, whole: ChannelSplit) -> ChannelSplit:
        """How the input reaches the server. Which part is shown is decided later: the last channels or tiles stand for any."""
        if self.tiles is None:
            return ChannelSplit(whole.channels, tuple(range(self.encrypted, whole.channels)), bits=self.bits)
        return replace(whole, released=(), bits=self.bits, tiles=Tiles(*self.tiles, tuple(range(self.encrypted))))


@dataclass(frozen=True)
class Option:
    """One way to run a stack of layers. `encrypted` is the share of its input that the server sees encrypted only."""

    side: str  # client or server
    cost: Cost
    encrypted: float = 1.0
    client_weights: int = 0
    server_weights: int = 0  # bytes that the server keeps: weights, and what a chain's keys and plaintexts take
    chain: int | None = None  # the chain that runs the stack with others, in one request; all of them or none
    backend: str = ""  # of the server's side
    client_cache: int = 0  # bytes that the client keeps for a run; the cost is that of a call of it on average
    first_bytes: int = 0  # that travel in a run's first call, both ways
    later_bytes: int = 0  # and in every other call of the run


def ladder(
    stacks: Sequence[Stack], shares: Sequence[float] = SHARES, bits: int = REVEAL_BITS, tile: Pair | None = None
) -> dict[str, tuple[Reveal, ...]]:
    """Reveals of channels at these shares for every stack, by its first layer; of tiles of this size where there are such."""
    found = {}
    for each in stacks:
        cut = cut_of(each.geometry, tile) if tile else None
        count = prod(cut) if cut else each.geometry.channels
        counts = {max(1, round(count * share)) for share in shares} - {count} if each.split.whole else set()
        found[each.names[0]] = tuple(Reveal(number, bits, cut) for number in sorted(counts, reverse=True))
    return found


def options_of(
    stack: Stack,
    machine: Machine,
    reveals: Sequence[Reveal] = (),
    distortion: LayerDistortion | None = None,
    backends: Sequence[str] = (),
    calls: int = 1,
    once: bool = False,
) -> tuple[Option, ...]:
    """The client first, then every backend's server: all encrypted if parameters carry that, then with every reveal; each also
    with what the client may keep for a run of so many calls, unless it is sent `once` a run."""
    weights = weights_of(stack.geometry)
    local = LocalWork(len(stack.names), 0, macs_of(stack.geometry) * stack.multiple)
    options = [Option("client", Cost(client_s=local.seconds(machine)), client_weights=weights)]
    splits = [each.split(stack.split) for each in reveals]
    first = replace(stack.split, released=(), tiles=None) if splits else stack.split
    for name in backends:
        for price in backend(name).price_layers(stack, machine, (first, *splits), calls=1 if once else calls):
            for option in _server_options(price, calls if once else 1):
                cost = option.cost
                if distortion is not None:
                    cost = replace(cost, error_var=distortion.error_var(price.limit, price.encrypted, price.shown_steps))
                options.append(replace(option, cost=cost, server_weights=weights + option.server_weights, backend=name))
    return tuple(options)


def _server_options(price: LayerPrice, calls_of_one: int) -> Iterator[Option]:
    """A price as options without the layer's weights: sent in every call, unless one of so many calls sends it for all of them;
    then with what is kept of its first reply. Packing chooses again what is kept, so a first call is
    counted with the bytes of whichever way sends most."""
    sent = price.cost.sent_bytes
    cost, later_bytes = (price.cost.over(calls_of_one), 0) if calls_of_one > 1 else (price.cost, sent)
    most = max([sent, *(kept.first.sent_bytes for kept in price.kept)])
    yield Option("server", cost, price.encrypted, 0, price.ordered, first_bytes=most, later_bytes=later_bytes)
    for kept in price.kept:
        yield Option(
            "server", kept.mean, price.encrypted, 0, kept.ordered, client_cache=kept.client_bytes, first_bytes=most,
            later_bytes=kept.later.sent_bytes,
        )  # fmt: skip


def entries_of(stack: Stack) -> int:
    """Secret entries that a stack reads, at batch one."""
    return stack.geometry.channels * prod(stack.geometry.size) * stack.multiple


def reveals_for(stack: Stack, reveals: Mapping[str, Sequence[Reveal]]) -> tuple[Reveal, ...]:
    """What any of the stack's layers may show."""
    return tuple(reveal for name in stack.names for reveal in reveals.get(name, ()))
