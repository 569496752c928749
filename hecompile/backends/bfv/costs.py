"""What one encrypted layer costs, from its packing and parameters: what there is to do, counted, times a profile's times.

The client encrypts every coefficient of an upload and decrypts every one of an answer. The server computes the `a` half of a layer
once for all blocks that share a seed and the `b` half of every block, in one of two forms (see `forms`). `Work` has the numbers,
`Machine` the time of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.backends.bfv.forms import FormName, Operations, form_operations, product_form
from hecompile.backends.bfv.memory import REPLY_COPIES, REQUEST_COPIES, in_lanes, keeps_values, working_bytes
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.rings import SEED_BYTES, groups_of
from hecompile.backends.words import packed_bytes
from hecompile.ir.candidates import Cost
from hecompile.machine import Machine

__all__ = [
    "ENCRYPT_WAYS", "PRICES", "Released", "Traffic", "Work", "client_work", "fresh_bytes", "kept_bytes", "layer_cost",
    "released_cost", "reply_words", "server_work", "traffic",
]  # fmt: skip

ENCRYPT_A, DECRYPT_A = 0.4, 1.6  # what a coefficient of `a` takes the client, once for all blocks of a seed, beside one of `b`
FLOAT_BYTES = 4
ENCRYPT_WAYS = 2  # what encrypting a layer takes whatever its size, beside decrypting one
MOST_KEPT = 32 << 20  # bytes of the largest buffer whose memory malloc uses again: a larger one gets fresh pages every time


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
    encrypts: float = 0.0  # coefficients of `b`, and a share of those of `a`
    decrypts: float = 0.0
    layers: float = 0.0  # layers, for the server
    releases: float = 0.0  # those of them with a part in clear
    ways: float = 0.0  # layers, for the client, each way: encrypting counts twice
    weights: float = 0.0  # values of weights in NTT form that are not kept
    fresh: float = 0.0  # bytes of memory that nothing had before
    reads: float = 0.0  # words of `b` that the client decodes

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
    ("weights", "weight_ns", 1e-9),
    ("fresh", "fresh_ns", 1e-9),
    ("reads", "read_ns", 1e-9),
)


@dataclass(frozen=True)
class Released:
    """The part of a layer's input that the server sees in clear: a product of integers, computed in floats."""

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
    form, operations = form_operations(layout, q_bits, requests, a_share)
    if form == "ntt":
        return _lanes_work(layout, operations)
    return Work(operations.macs, operations.words, operations.ntts, operations.pairs, layers=1)


def _lanes_work(layout: Layout, operations: Operations) -> Work:
    """What is done in NTT form, for whole lanes of uploads and of answers."""
    dimension, answers = layout.packing.dimension, in_lanes(layout.answers)
    sets = operations.pairs / (layout.answers * layout.uploads * dimension)  # of uploads, blocks' and seeds'
    values = answers * layout.uploads * dimension
    return Work(
        words=operations.words,
        ntts=dimension * (in_lanes(layout.blocks * layout.uploads) + answers * sets),
        pairs=values * sets,
        layers=1,
        weights=0 if keeps_values(layout) else values,
    )


def fresh_bytes(sent: Traffic) -> int:
    """Bytes of fresh memory that the server needs for a reply: as it is filled, and as it is handed on."""
    return 2 * sent.down_bytes if sent.down_bytes > MOST_KEPT else 0


def client_work(layout: Layout) -> Work:
    """What a client does for one request for a layer: both ways."""
    dimension, blocks, groups = layout.packing.dimension, layout.blocks, groups_of(layout.blocks)
    return Work(
        encrypts=layout.uploads * dimension * (blocks + ENCRYPT_A * groups),
        decrypts=layout.answers * dimension * (blocks + DECRYPT_A * groups),
        reads=blocks * layout.answers * layout.read_count,
        ways=ENCRYPT_WAYS + 1,
    )


def _peak_bytes(layout: Layout, q_bits: int, first: Traffic, form: FormName) -> int:
    """What a server holds at its fullest for a layer, at the first request of a run, beside weights: request and reply, and the
    core's memory."""
    return REQUEST_COPIES * first.up_bytes + REPLY_COPIES * first.down_bytes + working_bytes(layout, q_bits, form)


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
    work = replace(server_work(layout, q_bits, requests, a_share), fresh=fresh_bytes(sent))
    server_s, client_s = work.seconds(machine), client_work(layout).seconds(machine)
    form = product_form(layout, q_bits, requests).name
    peak_mib = _peak_bytes(layout, q_bits, traffic(layout, q_bits, drops), form) / 2**20
    cost = Cost(server_s, client_s, sent.up_bytes, sent.down_bytes, peak_mib=peak_mib)
    if released is None:
        return cost
    clear = released_cost(released, machine)
    return replace(cost + clear, peak_mib=max(peak_mib, clear.peak_mib))  # one after the other


def released_cost(released: Released, machine: Machine) -> Cost:
    """The released part."""
    up = packed_bytes(released.entries, released.bits)
    sums = released.rows * released.columns
    down = packed_bytes(sums, released.sum_bits)
    words = released.entries + sums
    product_s = released.terms * sums * machine.float_ps * 1e-12
    server_s = Work(words=words, releases=1).seconds(machine) + product_s
    client_s = Work(words=released.entries + (sums if released.sum_bits else 0)).seconds(machine) + 1e-6 * machine.client_release_us
    peak = FLOAT_BYTES * released.terms * (released.columns + released.rows) + 8 * sums
    return Cost(server_s, client_s, up, down, peak_mib=peak / 2**20, released=released.entries)
