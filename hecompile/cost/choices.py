"""The ways in which a layer can run, each with its cost: what the optimiser chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hecompile.backends.base import Cost
from hecompile.cost.distortion import LayerDistortion
from hecompile.cost.layers import Stack, cost_of, macs_of, parameters_for, released_of, weights_of
from hecompile.cost.local import LocalWork
from hecompile.cost.machine import Machine
from hecompile.ir.channels import ChannelSplit

__all__ = ["SHARES", "Option", "Reveal", "ladder", "options_of"]

SHARES = (0.75, 0.5, 0.25)  # of a layer's channels encrypted, under a revealing policy


@dataclass(frozen=True)
class Reveal:
    """A layer that shows a part of its input: `channels` stay encrypted, entries of the others are released with `bits` bits."""

    channels: int
    bits: int = ChannelSplit.bits


@dataclass(frozen=True)
class Option:
    """One way to run a stack of layers. `encrypted` is the share of its input's channels that the server sees encrypted only."""

    side: str  # client or server
    cost: Cost
    encrypted: float = 1.0
    client_weights: int = 0
    server_weights: int = 0


def ladder(
    stacks: Sequence[Stack], shares: Sequence[float] = SHARES, bits: int = ChannelSplit.bits
) -> dict[str, tuple[Reveal, ...]]:
    """Reveals at these shares for every stack, by its first layer."""
    found = {}
    for each in stacks:
        channels = each.shape.whole.channels
        counts = {max(1, round(channels * share)) for share in shares} - {channels}
        found[each.names[0]] = tuple(Reveal(count) for count in sorted(counts, reverse=True))
    return found


def options_of(
    stack: Stack, machine: Machine, reveals: Sequence[Reveal] = (), distortion: LayerDistortion | None = None
) -> tuple[Option, ...]:
    """The client first, then the server all encrypted if parameters carry that, then with every reveal."""
    shape, weights = stack.shape, weights_of(stack.shape.whole)
    local = LocalWork(len(stack.names), 0, macs_of(shape.whole) * shape.multiple)
    options = [Option("client", Cost(client_s=local.seconds(machine)), client_weights=weights)]
    channels = shape.whole.channels
    for reveal in (Reveal(channels), *reveals):
        kept = shape.with_encrypted(reveal.channels)
        # which channels are kept is decided later: any of this number stand for them here
        values = None if stack.weights is None else stack.weights[:, : kept.geometry.picture[0]]
        choice = parameters_for(kept, machine, weights=values)
        if choice is None:
            continue
        share = reveal.channels / channels
        cost = cost_of(choice, machine, released_of(kept, reveal.bits))
        if distortion is not None:
            shown = distortion.error_var(2.0 ** (reveal.bits - 1), 1 - share) - distortion.weights if share < 1 else 0.0
            cost = replace(cost, error_var=distortion.error_var(choice.parameters.limit, share) + shown)
        options.append(Option("server", cost, share, server_weights=weights))
    return tuple(options)


def entries_of(stack: Stack) -> int:
    """Secret entries that a stack reads, at batch one."""
    geometry = stack.shape.whole
    return geometry.channels * prod(geometry.size) * stack.shape.multiple


def reveals_for(stack: Stack, reveals: Mapping[str, Sequence[Reveal]]) -> tuple[Reveal, ...]:
    """What any of the stack's layers may show."""
    return tuple(reveal for name in stack.names for reveal in reveals.get(name, ()))
