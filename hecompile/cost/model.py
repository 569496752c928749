"""What one encrypted layer costs, from its packing and parameters: the terms of the evaluator and of the client, one by one."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.base import Cost
from hecompile.backends.bfv.bits import SEED_BYTES, packed_bytes
from hecompile.backends.fold import CHUNK_BYTES
from hecompile.backends.packing import Layout
from hecompile.cost.machine import Machine

__all__ = ["Traffic", "layer_cost", "seconds_of", "traffic"]


@dataclass(frozen=True)
class Traffic:
    """Polynomials and bytes of a layer's request and reply."""

    uploads: int
    answers: int
    up_bytes: int
    down_bytes: int


def traffic(layout: Layout, q_bits: int, drops: tuple[int, int]) -> Traffic:
    """What travels; `drops` are the low bits that answers leave out of b and a."""
    dimension = layout.packing.dimension
    uploads, answers = layout.blocks * layout.uploads, layout.blocks * layout.answers
    down = packed_bytes(answers * len(layout.reads), q_bits - drops[0]) + packed_bytes(answers * dimension, q_bits - drops[1])
    return Traffic(uploads, answers, packed_bytes(uploads * dimension, q_bits) + SEED_BYTES * uploads, down)


def layer_cost(layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine) -> Cost:
    """One request for this layer. Rounds are the region's, not the layer's: zero here."""
    sent = traffic(layout, q_bits, drops)
    dimension, limbs = layout.packing.dimension, -(-q_bits // 8)
    size = dimension / 2048
    terms, rows = layout.shifts.size, layout.answers * layout.packing.p_out
    columns = layout.columns * layout.blocks
    wire_s = (sent.up_bytes + sent.down_bytes) * machine.wire_ns_per_byte * 1e-9
    server_s = (
        terms * rows * columns * limbs / machine.product_gmac_per_s
        + terms * columns * limbs * machine.roll_ns_per_byte
        + rows * columns * limbs * machine.fold_ns_per_word
        + layout.answers * (dimension + len(layout.reads)) * layout.blocks * machine.modulo_ns_per_word
    ) * 1e-9
    server_s += (machine.layer_us + sent.uploads * size * machine.expand_us) * 1e-6 + wire_s
    client_s = (sent.uploads * machine.encrypt_us + sent.answers * machine.decrypt_us) * size * 1e-6 + wire_s
    polynomial = layout.columns * limbs
    sums = max(4 * polynomial * layout.packing.p_out, min(CHUNK_BYTES, 4 * polynomial * rows))
    words = 16 * dimension * (sent.uploads + sent.answers)  # both polynomials of everything that travels
    peak = min(CHUNK_BYTES, terms * polynomial) + 2 * sums + words
    return Cost(server_s, client_s, sent.up_bytes, sent.down_bytes, peak_mib=peak / 2**20)


def seconds_of(cost: Cost, machine: Machine) -> float:
    """Latency: both sides in turn, the bytes through the network, and the rounds."""
    network_s = (cost.up_bytes + cost.down_bytes) * 8 / machine.bandwidth_mbps * 1e-6
    rounds_s = cost.rounds * (machine.rtt_ms * 1e-3 + (machine.request_us + machine.key_us) * 1e-6)
    return cost.server_s + cost.client_s + network_s + rounds_s
