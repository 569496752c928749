"""The options among which the optimiser chooses: the ways in which a group of layers can run, each with its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hecompile.backends.registry import backend
from hecompile.ir.candidates import Cost, LayerPrice
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.layer_groups import LayerGroup, macs_of, weights_of
from hecompile.ir.linear import Pair
from hecompile.ir.tiles import Tiles, cut_of
from hecompile.machine import Machine
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.local import LocalWork

__all__ = ["SHARES", "Option", "RevealOption", "options_of", "reveal_options"]

SHARES = (0.75, 0.5, 0.25)  # shares of a layer's channels that stay encrypted, tried under a revealing policy
REVEAL_BITS = 8


@dataclass(frozen=True)
class RevealOption:
    """One way for a layer to reveal a part of its input: `encrypted` channels stay encrypted, the others get `bits` bits.

    With `tiles`, the rows and columns of tiles in a picture, so many tiles stay encrypted instead of channels.
    """

    encrypted: int
    bits: int = REVEAL_BITS
    tiles: Pair | None = None

    def split(self, whole: ChannelSplit) -> ChannelSplit:
        """Return the split of an input that is revealed in this way. The last channels or tiles stand for those that are chosen
        later."""
        if self.tiles is None:
            return ChannelSplit(whole.channels, tuple(range(self.encrypted, whole.channels)), bits=self.bits)
        return replace(whole, revealed=(), bits=self.bits, tiles=Tiles(*self.tiles, tuple(range(self.encrypted))))


@dataclass(frozen=True)
class Option:
    """One way to run a group of layers. `encrypted` is the share of its input that stays encrypted."""

    side: str  # client or server
    cost: Cost
    encrypted: float = 1.0
    client_weights: int = 0
    server_weights: int = 0  # bytes that the server keeps: weights, and what a multi-layer region's keys and plaintexts take
    region: int | None = None  # the multi-layer region that runs the group and others in one request
    backend: str = ""  # the server's backend
    client_cache: int = 0  # bytes that the client keeps for a run; the cost is the average over the calls of the run
    first_bytes: int = 0  # sent in a run's first call, both ways together
    later_bytes: int = 0  # sent in every other call of the run


def reveal_options(
    groups: Sequence[LayerGroup], shares: Sequence[float] = SHARES, bits: int = REVEAL_BITS, tile: Pair | None = None
) -> dict[str, tuple[RevealOption, ...]]:
    """Return the ways to reveal for every group, by its first layer: one for each share of channels that stay encrypted.

    With `tile`, tiles of this size are counted instead of channels, where a picture has several.
    """
    reveals = {}
    for group in groups:
        cut = cut_of(group.geometry, tile) if tile else None
        count = prod(cut) if cut else group.geometry.channels
        counts = {max(1, round(count * share)) for share in shares} - {count} if group.split.whole else set()
        reveals[group.names[0]] = tuple(RevealOption(number, bits, cut) for number in sorted(counts, reverse=True))
    return reveals


def options_of(
    group: LayerGroup,
    machine: Machine,
    reveals: Sequence[RevealOption] = (),
    distortion: LayerDistortion | None = None,
    backends: Sequence[str] = (),
    calls: int = 1,
    per_run: bool = False,
) -> tuple[Option, ...]:
    """Return the options of a group: first the client, then the server under every backend that has parameters for it.

    Under a backend, everything is encrypted first, then comes every way to reveal. Each is also offered with what the client may
    keep during a run of `calls` calls, unless the group's request is sent once per run.
    """
    weights = weights_of(group.geometry)
    local = LocalWork(len(group.names), 0, macs_of(group.geometry) * group.images_per_sample)
    options = [Option("client", Cost(client_s=local.seconds(machine)), client_weights=weights)]
    splits = [reveal.split(group.split) for reveal in reveals]
    first = replace(group.split, revealed=(), tiles=None) if splits else group.split
    for name in backends:
        for price in backend(name).price_layers(group, machine, (first, *splits), calls=1 if per_run else calls):
            for option in _server_options(price, calls if per_run else 1):
                cost = option.cost
                if distortion is not None:
                    cost = replace(cost, error_var=distortion.error_var(price.limit, price.encrypted, price.revealed_steps))
                options.append(replace(option, cost=cost, server_weights=weights + option.server_weights, backend=name))
    return tuple(options)


def _server_options(price: LayerPrice, calls_of_one: int) -> Iterator[Option]:
    """Yield the options of a price, without the memory for the layer's weights.

    First the request is sent in every call, or, if `calls_of_one` is above one, in one call for so many. Then come the ways to keep
    a part of the first reply. Packing decides again what is kept, so the first call counts the bytes of the way that sends most.
    """
    sent = price.cost.sent_bytes
    cost, later_bytes = (price.cost.over(calls_of_one), 0) if calls_of_one > 1 else (price.cost, sent)
    most = max([sent, *(kept.first.sent_bytes for kept in price.kept)])
    yield Option("server", cost, price.encrypted, 0, price.ordered, first_bytes=most, later_bytes=later_bytes)
    for kept in price.kept:
        yield Option(
            "server", kept.mean, price.encrypted, 0, kept.ordered, client_cache=kept.client_bytes, first_bytes=most,
            later_bytes=kept.later.sent_bytes,
        )  # fmt: skip


def entries_of(group: LayerGroup) -> int:
    """Return how many secret entries a group reads at batch one."""
    return group.geometry.channels * prod(group.geometry.size) * group.images_per_sample


def reveals_for(group: LayerGroup, reveals: Mapping[str, Sequence[RevealOption]]) -> tuple[RevealOption, ...]:
    """Return the ways in which any of the group's layers may reveal a part of its input."""
    return tuple(reveal for name in group.names for reveal in reveals.get(name, ()))
