"""What one encrypted layer costs: how many operations its packing and parameters need, times what each takes on a machine.

The client encrypts every coefficient of an upload and decrypts every coefficient of an answer. The server computes the `a` half of
a layer once for all blocks with one seed, and the `b` half for every block, in one of two forms (see `forms`). `Work` counts
operations, `Machine` has the time of each.
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
    "ENCRYPT_OVERHEADS",
    "PRICES",
    "Revealed",
    "Traffic",
    "Work",
    "client_work",
    "fresh_bytes",
    "kept_bytes",
    "layer_cost",
    "reply_words",
    "revealed_cost",
    "server_work",
    "traffic",
]  # fmt: skip

ENCRYPT_A, DECRYPT_A = 0.4, 1.6  # the client's time for a coefficient of `a`, once per seed, relative to one of `b`
FLOAT_BYTES = 4
ENCRYPT_OVERHEADS = 2  # overhead of encrypting a layer, relative to that of decrypting one
MOST_KEPT = 32 << 20  # bytes of the largest buffer that malloc reuses; a larger one gets fresh memory every time


@dataclass(frozen=True)
class Traffic:
    """Polynomials and bytes of a layer's request (`up`) and reply (`down`)."""

    uploads: int  # polynomials, of all blocks
    answers: int
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True)
class Work:
    """How many operations of each kind a layer takes. `PRICES` names the field of `Machine` with the time of one of each."""

    macs: float = 0.0  # multiply-adds of a byte of a word by an int8 weight
    words: float = 0.0  # words cut into limbs, put together from them, packed or unpacked
    ntts: float = 0.0  # coefficients that are transformed
    pairs: float = 0.0  # products of two values in NTT form
    encrypts: float = 0.0  # encrypted coefficients of `b`, and `ENCRYPT_A` times those of `a`
    decrypts: float = 0.0  # decrypted coefficients of `b`, and `DECRYPT_A` times those of `a`
    server_layers: float = 0.0  # layers that the server computes
    reveals: float = 0.0  # layers with a revealed part
    client_layers: float = 0.0  # layers that the client decrypts, and `ENCRYPT_OVERHEADS` for each that it encrypts
    weights: float = 0.0  # values of weights that are transformed to NTT form for this request
    fresh: float = 0.0  # bytes of fresh memory
    gathered: float = 0.0  # gathered words of `b`, which the client decodes

    def seconds(self, machine: Machine) -> float:
        """Predicted seconds on this machine."""
        return sum(float(getattr(self, name) * getattr(machine, field)) * unit for name, field, unit in PRICES)


PRICES = (
    ("macs", "mac_ps", 1e-12),
    ("words", "word_ns", 1e-9),
    ("ntts", "ntt_ns", 1e-9),
    ("pairs", "pair_ns", 1e-9),
    ("encrypts", "encrypt_ns", 1e-9),
    ("decrypts", "decrypt_ns", 1e-9),
    ("server_layers", "server_layer_us", 1e-6),
    ("reveals", "server_reveal_us", 1e-6),
    ("client_layers", "client_layer_us", 1e-6),
    ("weights", "weight_ns", 1e-9),
    ("fresh", "fresh_memory_ns", 1e-9),
    ("gathered", "gather_ns", 1e-9),
)


@dataclass(frozen=True)
class Revealed:
    """The part of a layer's input that the server sees in the clear, and multiplies as integers in floats."""

    entries: int
    bits: int  # of each entry
    rows: int
    terms: int  # channels of the picture times taps
    columns: int  # of the result: the points of its grid, for all elements
    sum_bits: int = 0  # of sums that are sent beside the answers, as with tiles; 0: sums are added to the answers


def reply_words(layout: Layout) -> tuple[int, int]:
    """How many words of `b` and of `a` a reply has. Blocks with one seed have the same `a`."""
    answers = layout.blocks * layout.answers * layout.gather_count
    return answers, groups_of(layout.blocks) * layout.answers * layout.packing.dimension


def traffic(layout: Layout, q_bits: int, drops: tuple[int, int], a_share: float = 1.0) -> Traffic:
    """What is sent for a layer. `drops` are the low bits that the answers' `b` and `a` leave out.

    Args:
        a_share: the fraction of requests that bring seeds and are answered with `a`: 1, 0, or an average over a run.
    """
    uploads, b = layout.blocks * layout.uploads, reply_words(layout)[0]
    up_bytes = packed_bytes(uploads * layout.packing.dimension, q_bits) + a_share * SEED_BYTES * groups_of(layout.blocks)
    down_bytes = packed_bytes(b, q_bits - drops[0]) + a_share * kept_bytes(layout, q_bits, drops)
    return Traffic(uploads, layout.blocks * layout.answers, round(up_bytes), round(down_bytes))


def kept_bytes(layout: Layout, q_bits: int, drops: tuple[int, int]) -> int:
    """Bytes of the answers' `a`: in the first reply of a run, and at a client that keeps it for the run."""
    return packed_bytes(reply_words(layout)[1], q_bits - drops[1])


def server_work(layout: Layout, q_bits: int, requests: int = 1, a_share: float = 1.0) -> Work:
    """The server's work for one request for a layer whose seeds serve `requests` requests (see `form_operations`)."""
    form, operations = form_operations(layout, q_bits, requests, a_share)
    if form == "ntt":
        return _lanes_work(layout, operations)
    return Work(operations.macs, operations.words, operations.ntts, operations.pairs, server_layers=1)


def _lanes_work(layout: Layout, operations: Operations) -> Work:
    """The same in NTT form, where uploads and answers are computed in whole lanes."""
    dimension, answers = layout.packing.dimension, in_lanes(layout.answers)
    sets = operations.pairs / (layout.answers * layout.uploads * dimension)  # of uploads: one for each block, and for each seed
    values = answers * layout.uploads * dimension
    return Work(
        words=operations.words,
        ntts=dimension * (in_lanes(layout.blocks * layout.uploads) + answers * sets),
        pairs=values * sets,
        server_layers=1,
        weights=0 if keeps_values(layout) else values,
    )


def fresh_bytes(sent: Traffic) -> int:
    """Bytes of fresh memory that a reply takes the server: it holds a large one twice."""
    return 2 * sent.down_bytes if sent.down_bytes > MOST_KEPT else 0


def client_work(layout: Layout) -> Work:
    """The client's work for one request for a layer: encrypting and decrypting."""
    dimension, blocks, groups = layout.packing.dimension, layout.blocks, groups_of(layout.blocks)
    return Work(
        encrypts=layout.uploads * dimension * (blocks + ENCRYPT_A * groups),
        decrypts=layout.answers * dimension * (blocks + DECRYPT_A * groups),
        gathered=blocks * layout.answers * layout.gather_count,
        client_layers=ENCRYPT_OVERHEADS + 1,
    )


def _peak_bytes(layout: Layout, q_bits: int, first: Traffic, form: FormName) -> int:
    """The most memory that a server needs for a layer in a run's first request, without weights: messages and scratch memory."""
    return REQUEST_COPIES * first.up_bytes + REPLY_COPIES * first.down_bytes + working_bytes(layout, q_bits, form)


def layer_cost(
    layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine, revealed: Revealed | None = None,
    requests: int = 1, a_share: float = 1.0,
) -> Cost:  # fmt: skip
    """The cost of one request for this layer. `layout` is that of its encrypted channels; rounds are counted for regions, not here.

    Args:
        requests: how many requests of a run its seeds serve.
        a_share: as in `traffic`.
    """
    sent = traffic(layout, q_bits, drops, a_share)
    work = replace(server_work(layout, q_bits, requests, a_share), fresh=fresh_bytes(sent))
    server_s, client_s = work.seconds(machine), client_work(layout).seconds(machine)
    form = product_form(layout, q_bits, requests).name
    peak_mib = _peak_bytes(layout, q_bits, traffic(layout, q_bits, drops), form) / 2**20
    cost = Cost(server_s, client_s, sent.up_bytes, sent.down_bytes, peak_mib=peak_mib)
    if revealed is None:
        return cost
    clear = revealed_cost(revealed, machine)
    return replace(cost + clear, peak_mib=max(peak_mib, clear.peak_mib))  # the two parts are computed one after the other


def revealed_cost(revealed: Revealed, machine: Machine) -> Cost:
    """The cost of the revealed part of a layer."""
    up = packed_bytes(revealed.entries, revealed.bits)
    sums = revealed.rows * revealed.columns
    down = packed_bytes(sums, revealed.sum_bits)
    words = revealed.entries + sums
    product_s = revealed.terms * sums * machine.float_ps * 1e-12
    server_s = Work(words=words, reveals=1).seconds(machine) + product_s
    client_s = Work(words=revealed.entries + (sums if revealed.sum_bits else 0)).seconds(machine) + 1e-6 * machine.client_reveal_us
    peak = FLOAT_BYTES * revealed.terms * (revealed.columns + revealed.rows) + 8 * sums
    return Cost(server_s, client_s, up, down, peak_mib=peak / 2**20, revealed=revealed.entries)
