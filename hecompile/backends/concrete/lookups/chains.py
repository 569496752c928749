"""Finding regions for lookups: conv, activation, conv in a row, small enough to be worth it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import Batch, ModelGraph, info

if TYPE_CHECKING:
    from torch import fx

    from hecompile.machine import Machine

__all__ = ["ACTIVATIONS", "chain_candidates"]

LOG = logging.getLogger(__name__)
ACTIVATIONS = ("aten.silu.default", "aten.gelu.default", "aten.mish.default", "aten.relu.default", "aten.sigmoid.default")
CONV = "aten.conv2d.default"
COMPLEXITY = 6e8  # of one activation in four bits, its exact rounding included; twice that where six are looked up
MOST_LOOKUPS = 1024  # beyond, the keys alone would be for minutes of work
KEY_BYTES = 300 << 20


def _only_reader(node: fx.Node) -> fx.Node | None:
    """The node that reads a value, if it is the only one."""
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def _chain(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """conv -> activation -> conv, starting here."""
    if str(node.target) != CONV or not info(node).secret:
        return None
    middle = _only_reader(node)
    if middle is None or str(middle.target) not in ACTIVATIONS:
        return None
    last = _only_reader(middle)
    if last is None or str(last.target) != CONV or last.args[0] is not middle:
        return None
    return node, middle, last


def chain_candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """One candidate per chain whose lookups are few enough; the others are named in the log and left to the next backend."""
    found = []
    for node in graph.nodes:
        chain = _chain(node)
        if chain is None:
            continue
        first, middle, last = chain
        shape = info(middle).shape
        if shape[0] != Batch():
            continue
        lookups = math.prod(int(str(size)) for size in shape[1:])
        seconds = lookups * COMPLEXITY * machine.lookup_ps * 1e-12
        if lookups > MOST_LOOKUPS:
            LOG.info(
                "%s: %d lookups, some %.0f s: left to the next backend (at most %d)", last.name, lookups, seconds, MOST_LOOKUPS
            )
            continue
        inputs, outputs = (math.prod(int(str(size)) for size in info(each).shape[1:]) for each in (first.args[0], last))
        cost = Cost(
            server_s=seconds, client_s=(inputs * machine.lwe_encrypt_us + outputs * machine.lwe_decrypt_us) * 1e-6,
            up_bytes=24 * inputs, down_bytes=8 * 2048 * outputs, key_bytes=KEY_BYTES, peak_mib=2 * KEY_BYTES / 2**20, rounds=1,
        )  # fmt: skip
        found.append(Candidate((first.name, middle.name, last.name), cost, backend, whole=True, own_request=True))
    return found
