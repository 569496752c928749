"""What a server holds while it answers a request for one layer, counted from the layer's packing as the core allocates it."""

from __future__ import annotations

from hecompile.backends.bfv.forms import CHANNELS, KEPT_BYTES, ROWS, STRIP, FormName
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.rings import groups_of

__all__ = ["LANES", "REPLY_COPIES", "REQUEST_COPIES", "in_lanes", "keeps_values", "ordered_bytes", "working_bytes"]

LANES = 8  # polynomials that are transformed together, empty ones too
# a server's process has a request as it comes, whole, and without its header; a reply as it is filled, as it is handed on, in
# HTTP's frame, and as what is left to be sent
REQUEST_COPIES, REPLY_COPIES = 3, 4
_PLANE_BYTES, _VALUE_BYTES = 96 << 20, 128 << 20  # of limbs and of values in NTT form that the core works on at a time
_BATCH, _SUM_CELLS, _TASKS = 4, 2, 4  # products that are added at a time, words of such a sum, and sums for each thread
_LINE = 64  # bytes of the cache
_THREADS = 2  # of a small server: more of them take a few MiB more


def in_lanes(polynomials: int) -> int:
    """Polynomials with the empty ones beside them."""
    return -(-polynomials // LANES) * LANES


def keeps_values(layout: Layout) -> bool:
    """Whether the server keeps the layer's weights in NTT form, if it multiplies in that form."""
    return 8 * in_lanes(layout.answers) * layout.uploads * layout.packing.dimension <= KEPT_BYTES


def ordered_bytes(layout: Layout, form: FormName) -> int:
    """A layer's weights in the order of the product, which a server keeps beside the int8 weights that it has loaded."""
    terms = layout.packing.p_in * layout.packing.p_out * len(layout.geometry.taps)
    if form == "limbs":
        return -(-layout.answers // ROWS) * ROWS * -(-layout.uploads // CHANNELS) * CHANNELS * terms
    pairs = in_lanes(layout.answers) * layout.uploads
    return 8 * pairs * layout.packing.dimension if keeps_values(layout) else pairs * terms


def working_bytes(layout: Layout, q_bits: int, form: FormName) -> int:
    """What the core allocates for a request. It keeps that for the next one."""
    return _limb_bytes(layout, q_bits) if form == "limbs" else _value_bytes(layout)


def _limb_bytes(layout: Layout, q_bits: int) -> int:
    """Planes of limbs of as many blocks as fit, which reach as far as weights move polynomials; and words of answers."""
    packing, shifts, limbs = layout.packing, layout.shifts[: layout.packing.p_in], -(-q_bits // 8)
    width = packing.dimension + max((packing.p_out - 1) * layout.jump - int(shifts.min()), 0) + max(int(shifts.max()), 0) + STRIP
    pitch = (-(-width * CHANNELS // _LINE) | 1) * _LINE
    planes = limbs * -(-layout.uploads // CHANNELS) * pitch
    at_once = min(max(_PLANE_BYTES // planes, 1), layout.blocks)
    for_a = planes if at_once > 2 else 0  # else those of `b` are taken again
    each = LANES * (16 + limbs) * packing.dimension + (
        1 << 16
    )  # words of eight uploads, transformed too, and what they are drawn from
    return at_once * (planes + 8 * layout.answers * layout.read_count) + for_a + _THREADS * each


def _value_bytes(layout: Layout) -> int:
    """Values of as many blocks as fit, words of answers, and sums: of a thread's eight answers, or where those are few of parts of
    the uploads."""
    cells, blocks = LANES * layout.packing.dimension, layout.blocks
    uploads, octets, tasks = 8 * layout.uploads * layout.packing.dimension, -(-layout.answers // LANES), _TASKS * _THREADS
    at_once = min(max(_VALUE_BYTES // uploads, 1), blocks + groups_of(blocks))
    sums = at_once * _SUM_CELLS * cells
    if octets >= tasks:
        summing = _THREADS * (sums + _BATCH * cells)
    else:
        pieces = min(-(-layout.uploads // _BATCH), -(-tasks // octets))
        summing = octets * pieces * sums + _THREADS * (_BATCH + 1) * cells
    taking = 4 * _THREADS * cells
    return at_once * uploads + 8 * min(at_once, blocks) * layout.answers * layout.read_count + 8 * max(summing, taking)
