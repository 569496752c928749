"""What one encrypted layer costs, from its packing and parameters: what there is to do, counted, times a profile's times.

The client encrypts every coefficient of an upload and decrypts every one of an answer. The server computes the `a` half of a layer
once for all blocks that share a seed and the `b` half of every block, in one of two forms (see `forms`). `Work` has the numbers,
`Machine` the time of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.backends.bfv.forms import KEPT_BYTES, form_operations
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.rings import SEED_BYTES, groups_of
from hecompile.backends.words import packed_bytes
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine

__all__ = [
    "PRICES", "Released", "Traffic", "Work", "client_work", "kept_bytes", "layer_cost", "released_cost", "reply_words",
    "server_work", "traffic",
]  # fmt: skip

A_SHARE = 0.5  # what a coefficient of `a` takes the client, once for all blocks of a seed, beside one of `b`


@dataclass(frozen=True)
class Traffic:
    """Polynomials and bytes of a layer's request and reply."""

    uploads: int  # of all blocks
    answers: int
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True)
class Work:
    """Numbers of things to do. Every field has its time in the field of `Machine` with the same beginning."""

    macs: float = 0.0  # u8 by s8
    words: float = 0.0  # words cut into limbs, put together, packed or unpacked
    ntts: float = 0.0  # coefficients transformed
    pairs: float = 0.0  # values multiplied in NTT form
    encrypts: float = 0.0  # coefficients of `b`, and half of those of `a`
    decrypts: float = 0.0
    layers: float = 0.0  # layers, for the server
    releases: float = 0.0  # those of them with a part in clear
    ways: float = 0.0  # layers, for the client, each way

    def seconds(self, machine: Machine) -> float:
        """Predicted."""
        return sum(float(getattr(self, name) * getattr(machine, field)) * unit for name, field, unit in PRICES)


PRICES = (
    ("macs", "mac_ps", 1e-12),
    ("words", "word_ns", 1e-9),
    ("ntts", "ntt_ns", 1e-9),
    ("pairs", "pair_ns", 1e-9),
    ("encrypts", "encrypt_ns", 1e-9),
    ("decrypts", "decrypt_ns", 1e-9),
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


def reply_words(layout: Layout) -> tuple[int, int]:
    """Words of `b` and of `a` of a reply. Blocks of one seed share the answers' `a`."""
    answers = layout.blocks * layout.answers * layout.read_count
    return answers, groups_of(layout.blocks) * layout.answers * layout.packing.dimension


def traffic(layout: Layout, q_bits: int, drops: tuple[int, int], a_share: float = 1.0) -> Traffic:
    """What travels; `drops` are the low bits that answers leave out of b and a.

    Args:
        a_share: of the requests, how many bring seeds and are answered with `a`: 1 or 0, or a mean over those of a run.
    """
    uploads, b = layout.blocks * layout.uploads, reply_words(layout)[0]
    up_bytes = packed_bytes(uploads * layout.packing.dimension, q_bits) + a_share * SEED_BYTES * groups_of(layout.blocks)
    down_bytes = packed_bytes(b, q_bits - drops[0]) + a_share * kept_bytes(layout, q_bits, drops)
    return Traffic(uploads, layout.blocks * layout.answers, round(up_bytes), round(down_bytes))


def kept_bytes(layout: Layout, q_bits: int, drops: tuple[int, int]) -> int:
    """What the `a` of answers takes: in a first reply, and at a client that keeps it for a run."""
    return packed_bytes(reply_words(layout)[1], q_bits - drops[1])


def server_work(layout: Layout, q_bits: int, requests: int = 1, a_share: float = 1.0) -> Work:
    """What a server does to answer one request for a layer whose seeds serve `requests` (see `form_operations`)."""
    _, operations = form_operations(layout, q_bits, requests, a_share)
    return Work(operations.macs, operations.words, operations.ntts, operations.pairs, layers=1)


def client_work(layout: Layout) -> Work:
    """What a client does for one request for a layer: both ways."""
    each = layout.packing.dimension * (layout.blocks + A_SHARE * groups_of(layout.blocks))
    return Work(encrypts=layout.uploads * each, decrypts=layout.answers * each, ways=2)


def _peak_bytes(layout: Layout, q_bits: int, sent: Traffic) -> int:
    """What a server holds at its fullest: request, reply, one block's answers, and its limbs or what is in NTT form."""
    dimension, groups = layout.packing.dimension, groups_of(layout.blocks)
    if form_operations(layout, q_bits)[0] == "ntt":
        weights = 8 * layout.answers * layout.uploads * dimension
        held = 8 * layout.uploads * dimension * (layout.blocks + groups) + (weights if weights <= KEPT_BYTES else 0)
    else:
        held = 2 * layout.uploads * dimension * -(-q_bits // 8)  # of both signs
    return sent.up_bytes + sent.down_bytes + 8 * layout.answers * dimension + held


def layer_cost(
    layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine, released: Released | None = None,
    requests: int = 1, a_share: float = 1.0,
) -> Cost:  # fmt: skip
    """One request for this layer, `layout` being that of its encrypted channels. Rounds are the region's, not the layer's: zero.

    Args:
        requests: how many requests of a run its seeds serve.
        a_share: as of `traffic`.
    """
    sent = traffic(layout, q_bits, drops, a_share)
    server_s, client_s = server_work(layout, q_bits, requests, a_share).seconds(machine), client_work(layout).seconds(machine)
    peak_mib = _peak_bytes(layout, q_bits, sent) / 2**20
    cost = Cost(server_s, client_s, sent.up_bytes, sent.down_bytes, peak_mib=peak_mib)
    if released is None:
        return cost
    clear = released_cost(released, machine)
    return replace(cost + clear, peak_mib=max(peak_mib, clear.peak_mib))  # one after the other


def released_cost(released: Released, machine: Machine) -> Cost:
    """The released part."""
    up, limbs = packed_bytes(released.entries, released.bits), -(-released.bits // 8)
    sums = released.rows * released.columns
    down = packed_bytes(sums, released.sum_bits)
    words = released.entries + sums
    work = Work(macs=released.terms * sums * limbs, words=words, releases=1)
    client_s = Work(words=released.entries + (sums if released.sum_bits else 0)).seconds(machine)
    peak = released.terms * released.columns * limbs + 8 * sums
    return Cost(work.seconds(machine), client_s, up, down, peak_mib=peak / 2**20, released=released.entries)
