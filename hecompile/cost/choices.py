"""The ways in which a layer can run, each with its cost: what the optimiser chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hecompile.backends.base import Cost
from hecompile.backends.registry import backend
from hecompile.cost.distortion import LayerDistortion
from hecompile.cost.layers import Stack, cost_of, macs_of, parameters_for, released_of, weights_of
from hecompile.cost.local import LocalWork
from hecompile.cost.machine import Machine
from hecompile.ir.channels import ChannelSplit

__all__ = ["SHARES", "Option", "Reveal", "ladder", "options_of"]

SHARES = (0.75, 0.5, 0.25)  # of a layer's channels encrypted, under a revealing policy
REVEAL_BITS = 8


@dataclass(frozen=True)
class Reveal:
    """A layer that shows a part of its input: `channels` stay encrypted, entries of the others are released with `bits` bits."""

    channels: int
    bits: int = REVEAL_BITS


@dataclass(frozen=True)
class Option:
    """One way to run a stack of layers. `encrypted` is the share of its input's channels that the server sees encrypted only."""

    side: str  # client or server
    cost: Cost
    encrypted: float = 1.0
    client_weights: int = 0
    server_weights: int = 0
    backend: str = ""  # of the server's side


def ladder(stacks: Sequence[Stack], shares: Sequence[float] = SHARES, bits: int = REVEAL_BITS) -> dict[str, tuple[Reveal, ...]]:
    """Reveals at these shares for every stack, by its first layer."""
    found = {}
    for each in stacks:
        channels = each.geometry.channels
        counts = {max(1, round(channels * share)) for share in shares} - {channels} if each.split.whole else set()
        found[each.names[0]] = tuple(Reveal(count, bits) for count in sorted(counts, reverse=True))
    return found


def options_of(
    stack: Stack,
    machine: Machine,
    reveals: Sequence[Reveal] = (),
    distortion: LayerDistortion | None = None,
    backends: Sequence[str] = ("bfv",),
) -> tuple[Option, ...]:
    """The client first, then every backend's server: all encrypted if parameters carry that, then with every reveal."""
    weights = weights_of(stack.geometry)
    local = LocalWork(len(stack.names), 0, macs_of(stack.geometry) * stack.multiple)
    options = [Option("client", Cost(client_s=local.seconds(machine)), client_weights=weights)]
    for name in backends:
        priced = backend(name).price(stack, machine)
        if priced is None:
            options += _integer_options(stack, machine, reveals, distortion, name)
        elif stack.split.whole:
            cost, limit = priced
            if distortion is not None:
                cost = replace(cost, error_var=distortion.error_var(limit, 1.0, 1.0))
            options.append(Option("server", cost, server_weights=weights, backend=name))
    return tuple(options)


def _integer_options(
    stack: Stack, machine: Machine, reveals: Sequence[Reveal], distortion: LayerDistortion | None, name: str
) -> list[Option]:
    """The server of a backend whose costs follow from `bfv`'s parameters."""
    geometry, weights, channels = stack.geometry, weights_of(stack.geometry), stack.geometry.channels
    options = []
    # which channels are shown is decided later: the last ones stand for any
    splits = [ChannelSplit(channels, tuple(range(each.channels, channels)), bits=each.bits) for each in reveals]
    first = replace(stack.split, released=()) if splits else stack.split
    for split in (first, *splits):
        choice = parameters_for(stack, machine, split=split)
        if choice is None:
            continue
        cost, share = cost_of(choice, machine, released_of(geometry, split, stack.multiple)), 1 - len(split.released) / channels
        if distortion is not None:
            cost = replace(cost, error_var=distortion.error_var(choice.parameters.limit, share, 2.0 ** (split.bits - 1)))
        options.append(Option("server", cost, share, server_weights=weights, backend=name))
    return options


def entries_of(stack: Stack) -> int:
    """Secret entries that a stack reads, at batch one."""
    return stack.geometry.channels * prod(stack.geometry.size) * stack.multiple


def reveals_for(stack: Stack, reveals: Mapping[str, Sequence[Reveal]]) -> tuple[Reveal, ...]:
    """What any of the stack's layers may show."""
    return tuple(reveal for name in stack.names for reveal in reveals.get(name, ()))
