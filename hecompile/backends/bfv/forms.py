"""In which of two forms a server multiplies a layer's ciphertexts by its weights, and how many operations each form takes.

Limbs: words are cut into bytes, an answer is a sum of bytes times int8 weights, and the sums are put together modulo q at the end.
NTT: polynomials and weights are transformed, and an answer is a sum of products value by value. Both give the same words, so only
the time differs. A prediction uses the constants in `PRICES`, the same for every machine. A server whose kernel is much faster at
limbs uses constants of its own, and may take another form than was predicted.

`a` is needed at every coefficient, but only once per group of blocks with one seed, and only in the first of the requests that a
seed serves. `b` belongs to every block, but is needed only around gathered coefficients, in strips of 64. All requests of a run use
the same form, the one that is faster on average, since the weights are kept in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.rings import groups_of

__all__ = [
    "KEPT_BYTES",
    "PRICES",
    "FormPrices",
    "Operations",
    "Prices",
    "ProductForm",
    "form_operations",
    "limbs_of_b_seconds",
    "limbs_operations",
    "product_form",
]

FormName = Literal["limbs", "ntt"]
KEPT_BYTES = 4 << 20  # most weights of a layer in NTT form that a server keeps; larger ones are transformed for every request
STRIP, ROWS, CHANNELS = 64, 6, 4  # coefficients, answers and uploads that most kernels of limbs take at a time


class Prices(Protocol):
    """The times that single operations take: picoseconds or nanoseconds, by the end of the name (see `Machine`)."""

    @property
    def mac_ps(self) -> float: ...
    @property
    def word_ns(self) -> float: ...
    @property
    def ntt_ns(self) -> float: ...
    @property
    def pair_ns(self) -> float: ...


@dataclass(frozen=True)
class FormPrices:
    """`Prices` with constants that are typical for any machine."""

    mac_ps: float = 3.5
    word_ns: float = 1.5
    ntt_ns: float = 1.2
    pair_ns: float = 0.15


@dataclass(frozen=True)
class _Kernel:
    """What a server decides the form by: prices, and how many answers and uploads its kernel multiplies at a time."""

    prices: FormPrices
    rows: int = ROWS
    channels: int = CHANNELS


PRICES = FormPrices()
_ANY = _Kernel(PRICES)
_KERNELS = MappingProxyType({"amx": _Kernel(FormPrices(mac_ps=1.3), 16, 64)})  # kernels that are far from `PRICES`


@dataclass(frozen=True)
class Operations:
    """How many operations the products of a layer take."""

    macs: float  # multiply-adds of a byte of a word by an int8 weight
    words: float  # words cut into limbs or unpacked; expanding one from a seed or putting one together from limbs counts twice
    ntts: float  # coefficients that are transformed
    pairs: float  # products of two values in NTT form

    def seconds(self, prices: Prices) -> float:
        """Predicted seconds at these prices."""
        nanoseconds = self.words * prices.word_ns + self.ntts * prices.ntt_ns + self.pairs * prices.pair_ns
        return 1e-12 * self.macs * prices.mac_ps + 1e-9 * nanoseconds


@dataclass(frozen=True)
class ProductForm:
    """The faster form, and the predicted seconds of both."""

    name: FormName
    limbs_s: float
    ntt_s: float


def product_form(layout: Layout, q_bits: int, requests: int = 1, kernel: str | None = None) -> ProductForm:
    """The form for a layer's products at one batch size, where a seed serves `requests` requests of a run.

    Args:
        kernel: name of the kernel of the server that asks. None: predict the form for any machine.
    """
    server = _ANY if kernel is None else _KERNELS.get(kernel, _ANY)
    both = _limbs(layout, q_bits, 1 / requests, server), _ntt(layout, 1 / requests)
    limbs_s, ntt_s = (operations.seconds(server.prices) for operations in both)
    return ProductForm("ntt" if ntt_s < limbs_s else "limbs", limbs_s, ntt_s)


def form_operations(layout: Layout, q_bits: int, requests: int = 1, a_share: float = 1.0) -> tuple[FormName, Operations]:
    """The form for a layer's products, and the operations of one request in it.

    Args:
        a_share: the fraction of requests for which the `a` half is computed: 1, 0, or an average over a run.
    """
    name = product_form(layout, q_bits, requests).name
    return name, _ntt(layout, a_share) if name == "ntt" else _limbs(layout, q_bits, a_share)


def limbs_operations(layout: Layout, q_bits: int) -> Operations:
    """The operations of a request that brings seeds, in the form of limbs."""
    return _limbs(layout, q_bits, 1.0)


def limbs_of_b_seconds(layout: Layout, q_bits: int) -> float:
    """Predicted seconds of a product in the form of limbs that computes the `b` half alone."""
    return _limbs(layout, q_bits, 0.0).seconds(PRICES)


def _limbs(layout: Layout, q_bits: int, a_share: float, kernel: _Kernel = _ANY) -> Operations:
    dimension, blocks, groups = layout.packing.dimension, layout.blocks, a_share * groups_of(layout.blocks)
    span = min(dimension, layout.packing.p_out * _up(layout.channel_stride, STRIP))
    coefficients = groups * dimension + blocks * span
    terms = layout.packing.p_in * layout.packing.p_out * len(layout.geometry.taps)
    return Operations(
        macs=_up(layout.answers, kernel.rows) * _up(layout.uploads, kernel.channels) * terms * -(-q_bits // 8) * coefficients,
        words=layout.uploads * dimension * (blocks + 3 * groups) + 2 * layout.answers * coefficients,
        ntts=layout.uploads * dimension * groups,  # `a` is expanded in NTT order
        pairs=0,
    )


def _ntt(layout: Layout, a_share: float) -> Operations:
    dimension, blocks, groups = layout.packing.dimension, layout.blocks, a_share * groups_of(layout.blocks)
    pairs = layout.answers * layout.uploads * dimension
    transformed = 0 if 8 * pairs <= KEPT_BYTES else pairs
    return Operations(
        macs=0,
        words=layout.uploads * dimension * (blocks + 2 * groups) + layout.answers * dimension * (blocks + groups),
        ntts=transformed + layout.uploads * dimension * blocks + layout.answers * dimension * (blocks + groups),
        pairs=pairs * (blocks + groups),
    )


def _up(count: int, step: int) -> int:
    """The next multiple of `step` that is not below the number."""
    return -(-count // step) * step
