"""What one encrypted layer costs, from its packing and parameters: what there is to do, counted, times a profile's times.

The evaluator cuts every upload's words into limbs, rolls them once per term, multiplies by weights laid out for the answers' groups
and puts the limbs of the answers together modulo q. `Work` has the numbers, `Machine` the time of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.backends.bfv.groups import chunks
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.words import SEED_BYTES, packed_bytes
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine

__all__ = ["Released", "Traffic", "Work", "client_work", "layer_cost", "server_work", "traffic"]

ENCODED = 4  # int64 words that encoding a sum goes through, each like a limb's word of an answer


@dataclass(frozen=True)
class Traffic:
    """Polynomials and bytes of a layer's request and reply."""

    uploads: int
    answers: int
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True)
class Work:
    """Numbers of things to do. Every field has its time in the field of `Machine` with the same beginning."""

    macs: float = 0.0  # u8 by s8
    terms: float = 0.0  # bytes of rolled terms
    sums: float = 0.0  # int32 words of products
    weights: float = 0.0  # bytes of weights, laid out for groups
    words: float = 0.0  # limb words put together modulo q
    extends: float = 0.0  # bytes of the uploads' limbs, extended
    expands: float = 0.0  # seeds to polynomials of 2048 coefficients
    encrypts: float = 0.0  # polynomials of 2048 coefficients
    decrypts: float = 0.0
    wires: float = 0.0  # bytes packed or unpacked at the server
    carries: float = 0.0  # bytes packed or unpacked at the client, with the values that they come from or become
    layers: float = 0.0  # layers, for the server
    releases: float = 0.0  # those of them with a part in clear
    ways: float = 0.0  # layers, for the client, each way

    def seconds(self, machine: Machine) -> float:
        """Predicted."""
        return sum(float(getattr(self, name) * getattr(machine, field)) * unit for name, field, unit in PRICES)


PRICES = (
    ("macs", "mac_ps", 1e-12),
    ("terms", "term_ns", 1e-9),
    ("sums", "sum_ns", 1e-9),
    ("weights", "weight_ns", 1e-9),
    ("words", "word_ns", 1e-9),
    ("extends", "extend_ns", 1e-9),
    ("expands", "expand_us", 1e-6),
    ("encrypts", "encrypt_us", 1e-6),
    ("decrypts", "decrypt_us", 1e-6),
    ("wires", "wire_ns", 1e-9),
    ("carries", "carry_ns", 1e-9),
    ("layers", "layer_us", 1e-6),
    ("releases", "release_us", 1e-6),
    ("ways", "way_us", 1e-6),
)


@dataclass(frozen=True)
class Released:
    """The part of a layer's input that the server sees in clear: a product of plain integers."""

    entries: int
    bits: int  # of each
    rows: int
    terms: int  # channels of the picture times taps
    columns: int  # of the result: its grid, for all elements
    sum_bits: int = 0  # of sums that travel beside the answers, as with tiles; 0: they are encoded and added to them


def traffic(layout: Layout, q_bits: int, drops: tuple[int, int]) -> Traffic:
    """What travels; `drops` are the low bits that answers leave out of b and a."""
    dimension = layout.packing.dimension
    uploads, answers = layout.blocks * layout.uploads, layout.blocks * layout.answers
    down = packed_bytes(answers * len(layout.reads), q_bits - drops[0]) + packed_bytes(answers * dimension, q_bits - drops[1])
    return Traffic(uploads, answers, packed_bytes(uploads * dimension, q_bits) + SEED_BYTES * uploads, down)


@dataclass(frozen=True)
class _Chunks:
    """How the evaluator cuts a block: rows and terms of a product, how many products make an answer, how often terms are rolled."""

    rows: int
    terms: int
    products: int
    rolls: int


def _chunks(layout: Layout, limbs: int) -> _Chunks:
    answers, terms = chunks(layout, limbs)
    products = -(-layout.shifts.size // terms)
    return _Chunks(answers * layout.groups, terms * layout.groups, products, -(-layout.answers // answers) if products > 1 else 1)


def server_work(layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine) -> Work:
    """What a server does to answer one request for a layer."""
    sent, limbs = traffic(layout, q_bits, drops), _limbs(q_bits, machine)
    cut, dimension = _chunks(layout, limbs), layout.packing.dimension
    rows, terms = layout.answers * layout.groups, layout.shifts.size * layout.groups
    columns = layout.columns * layout.blocks * limbs
    return Work(
        macs=terms * rows * columns,
        terms=terms * columns * cut.rolls,
        weights=terms * rows * layout.blocks,
        sums=rows * columns * cut.products,
        words=layout.answers * (dimension + len(layout.reads)) * layout.blocks * limbs,
        extends=8 * sent.uploads * dimension * limbs,
        expands=sent.uploads * dimension / 2048,
        wires=sent.up_bytes + sent.down_bytes,
        layers=1,
    )


def client_work(layout: Layout, q_bits: int, drops: tuple[int, int]) -> Work:
    """What a client does for one request for a layer: both ways."""
    sent, size = traffic(layout, q_bits, drops), layout.packing.dimension / 2048
    carries = sent.up_bytes + sent.down_bytes
    return Work(encrypts=sent.uploads * size, decrypts=sent.answers * size, carries=carries, ways=2)


def _limbs(q_bits: int, machine: Machine) -> int:
    return -(-q_bits // int(machine.limb_bits))


def _peak_bytes(layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine) -> float:
    """What a server holds at its fullest: the request, one block's limbs, terms, sums and answers; copies where they are made."""
    sent, limbs = traffic(layout, q_bits, drops), _limbs(q_bits, machine)
    cut, dimension = _chunks(layout, limbs), layout.packing.dimension
    request = 16 * sent.uploads * dimension + 2 * sent.up_bytes
    extended = layout.uploads * dimension * (16 + 12 * limbs)  # negatives, limbs of both signs, and these extended
    held = layout.uploads * dimension * 8 * limbs
    operand = 2 * cut.terms * layout.columns * limbs  # and turned for the product
    sums = 4 * cut.rows * layout.columns * limbs + (8 * cut.rows * layout.columns * limbs if cut.products > 1 else 0)
    answers = 3 * 8 * cut.rows * layout.columns  # put together
    reply = 2 * 8 * sent.answers * (dimension + len(layout.reads)) + sent.down_bytes
    weights = 4 * cut.rows * cut.terms  # and what they are laid out from, and turned
    return request + max(extended, held + operand + sums + answers + reply + weights)


def layer_cost(layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine, released: Released | None = None) -> Cost:
    """One request for this layer, `layout` being that of its encrypted channels. Rounds are the region's, not the layer's: zero."""
    sent = traffic(layout, q_bits, drops)
    server_s = server_work(layout, q_bits, drops, machine).seconds(machine)
    client_s = client_work(layout, q_bits, drops).seconds(machine)
    peak_mib = _peak_bytes(layout, q_bits, drops, machine) / 2**20
    cost = Cost(server_s, client_s, sent.up_bytes, sent.down_bytes, peak_mib=peak_mib)
    if released is None:
        return cost
    clear = released_cost(released, machine)
    return replace(cost + clear, peak_mib=max(peak_mib, clear.peak_mib))  # one after the other


def released_cost(released: Released, machine: Machine) -> Cost:
    """The released part."""
    up, limbs = packed_bytes(released.entries, released.bits), _limbs(released.bits, machine)
    columns, sums = released.columns * limbs, released.rows * released.columns
    down = packed_bytes(sums, released.sum_bits)
    work = Work(
        macs=released.terms * released.rows * columns,
        terms=released.terms * columns,
        sums=sums * limbs,
        words=0 if released.sum_bits else ENCODED * sums,
        wires=up + down,
        releases=1,
    )
    client_s = Work(carries=up + down).seconds(machine)
    peak = 2 * released.terms * columns + (8 * limbs + 8 * ENCODED) * sums
    return Cost(work.seconds(machine), client_s, up, down, peak_mib=peak / 2**20, released=released.entries)
