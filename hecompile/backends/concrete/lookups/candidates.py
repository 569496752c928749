"""Finds regions for table lookups: conv, activation, conv in a row, where the activation has few enough entries."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import Batch, ModelGraph, info

if TYPE_CHECKING:
    from torch import fx

    from hecompile.machine import Machine

__all__ = ["ACTIVATIONS", "lookup_candidates"]

LOG = logging.getLogger(__name__)
ACTIVATIONS = ("aten.silu.default", "aten.gelu.default", "aten.mish.default", "aten.relu.default", "aten.sigmoid.default")
CONV = "aten.conv2d.default"
COMPLEXITY = 6e8  # Concrete's number for one activation of four bits with its exact rounding; six bits take twice as much
MOST_LOOKUPS = 1024  # of a region: more take minutes
KEY_BYTES = 300 << 20  # of a region's evaluation keys, about


def _only_reader(node: fx.Node) -> fx.Node | None:
    """The only node that reads a value, or None if several do or none does."""
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def _conv_activation_conv(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """The three nodes conv, activation, conv that begin at a node; None if they do not."""
    if str(node.target) != CONV or not info(node).secret:
        return None
    middle = _only_reader(node)
    if middle is None or str(middle.target) not in ACTIVATIONS:
        return None
    last = _only_reader(middle)
    if last is None or str(last.target) != CONV or last.args[0] is not middle:
        return None
    return node, middle, last


def lookup_candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """Return a candidate for every conv, activation, conv with few enough table lookups. The log names the others."""
    candidates = []
    for node in graph.nodes:
        nodes = _conv_activation_conv(node)
        if nodes is None:
            continue
        first, middle, last = nodes
        shape = info(middle).shape
        if shape[0] != Batch():
            continue
        lookups = math.prod(int(str(size)) for size in shape[1:])
        seconds = lookups * COMPLEXITY * machine.lookup_ps * 1e-12
        if lookups > MOST_LOOKUPS:
            LOG.info(
                "%s: %d table lookups take about %.0f s: left to the next backend (at most %d lookups)",
                last.name,
                lookups,
                seconds,
                MOST_LOOKUPS,
            )
            continue
        inputs, outputs = (math.prod(int(str(size)) for size in info(value).shape[1:]) for value in (first.args[0], last))
        cost = Cost(
            server_s=seconds, client_s=(inputs * machine.lwe_encrypt_us + outputs * machine.lwe_decrypt_us) * 1e-6,
            up_bytes=24 * inputs, down_bytes=8 * 2048 * outputs, key_bytes=KEY_BYTES, peak_mib=2 * KEY_BYTES / 2**20, rounds=1,
        )  # fmt: skip
        candidates.append(Candidate((first.name, middle.name, last.name), cost, backend, whole=True, own_request=True))
    return candidates
