"""How much memory a server needs to answer a request for one layer, computed from the layer's packing as the core allocates it."""

from __future__ import annotations

from hecompile.backends.bfv.forms import CHANNELS, KEPT_BYTES, ROWS, STRIP, FormName
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.rings import groups_of

__all__ = ["LANES", "REPLY_COPIES", "REQUEST_COPIES", "in_lanes", "keeps_values", "ordered_bytes", "working_bytes"]

LANES = 8  # polynomials that are transformed together; unused lanes are transformed too
# copies that a server's process holds: of a request as received, joined, and without its header; of a reply as computed, handed on,
# framed for HTTP, and queued for sending
REQUEST_COPIES, REPLY_COPIES = 3, 4
_PLANE_BYTES, _VALUE_BYTES = 96 << 20, 128 << 20  # most bytes of limbs, and of values in NTT form, that the core works on at a time
_BATCH, _SUM_CELLS, _TASKS = 4, 2, 4  # products added at a time, words of such a sum, tasks for each thread: as in the core
_LINE = 64  # bytes of a cache line
_THREADS = 2  # of a small server; every further thread takes a few MiB


def in_lanes(polynomials: int) -> int:
    """The number of polynomials rounded up to a multiple of `LANES`: unused lanes are computed too."""
    return -(-polynomials // LANES) * LANES


def keeps_values(layout: Layout) -> bool:
    """Whether a server that multiplies this layer in NTT form keeps its weights in that form."""
    return 8 * in_lanes(layout.answers) * layout.uploads * layout.packing.dimension <= KEPT_BYTES


def ordered_bytes(layout: Layout, form: FormName) -> int:
    """Bytes of a layer's weights in the order of the product, which a server keeps in addition to the int8 weights of its half."""
    terms = layout.packing.p_in * layout.packing.p_out * len(layout.geometry.taps)
    if form == "limbs":
        return -(-layout.answers // ROWS) * ROWS * -(-layout.uploads // CHANNELS) * CHANNELS * terms
    pairs = in_lanes(layout.answers) * layout.uploads
    return 8 * pairs * layout.packing.dimension if keeps_values(layout) else pairs * terms


def working_bytes(layout: Layout, q_bits: int, form: FormName) -> int:
    """Bytes that the core allocates for a request. It keeps them for the next request."""
    return _limb_bytes(layout, q_bits) if form == "limbs" else _value_bytes(layout)


def _limb_bytes(layout: Layout, q_bits: int) -> int:
    """Bytes for the form of limbs: planes of limbs for as many blocks as fit, words of answers, and scratch memory per thread."""
    packing, shifts, limbs = layout.packing, layout.shifts[: layout.packing.p_in], -(-q_bits // 8)
    width = (
        packing.dimension
        + max((packing.p_out - 1) * layout.output_stride - int(shifts.min()), 0)
        + max(int(shifts.max()), 0)
        + STRIP
    )
    pitch = (-(-width * CHANNELS // _LINE) | 1) * _LINE
    planes = limbs * -(-layout.uploads // CHANNELS) * pitch
    at_once = min(max(_PLANE_BYTES // planes, 1), layout.blocks)
    for_a = planes if at_once > 2 else 0  # otherwise `a` uses the planes of `b`
    scratch = LANES * (16 + limbs) * packing.dimension + (1 << 16)  # words of eight uploads, transformed ones too, and random bytes
    return at_once * (planes + 8 * layout.answers * layout.gather_count) + for_a + _THREADS * scratch


def _value_bytes(layout: Layout) -> int:
    """Bytes for the NTT form: values of the uploads of as many blocks as fit, words of answers, and sums.

    With many answers each thread holds sums of eight; with few, the uploads are cut into pieces that have sums of their own.
    """
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
    return at_once * uploads + 8 * min(at_once, blocks) * layout.answers * layout.gather_count + 8 * max(summing, taking)
