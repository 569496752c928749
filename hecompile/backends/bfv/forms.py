"""In which of two forms a server multiplies a layer's ciphertexts by its weights, and what there is to do in each.

Limbs: words are cut into bytes, an answer is a sum of bytes times int8 weights, put together modulo q at the end. NTT: polynomials
and weights are transformed, an answer is a sum of products of single values. Both give the same words, so the choice is of time
only. A prediction takes it from sizes and the constants of `PRICES`, whatever the machine. A server whose kernel multiplies limbs
much faster has constants of its own, and may take limbs where the prediction has NTT: nobody has to agree with it.

The polynomials `a` are needed at every coefficient, once per group of blocks that share them, and where a seed serves several
requests of a run in the first of them only; of `b`, which every block has, only the spans of coefficients that are read count,
rounded up to strips of 64. One form serves all requests of a run, as weights lie in its order: the one that is faster on average.
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
KEPT_BYTES = 4 << 20  # of a layer's weights in NTT form that a server keeps; more are transformed anew for every request
STRIP, ROWS, CHANNELS = 64, 6, 4  # coefficients, answers and uploads that the kernel of limbs takes at a time


class Prices(Protocol):
    """What single operations take."""

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
    """`Prices` as constants."""

    mac_ps: float = 3.5
    word_ns: float = 1.5
    ntt_ns: float = 1.2
    pair_ns: float = 0.15


@dataclass(frozen=True)
class _Kernel:
    """What decides the form at a server: prices, and how many answers and uploads are multiplied at a time."""

    prices: FormPrices
    rows: int = ROWS
    channels: int = CHANNELS


PRICES = FormPrices()
_ANY = _Kernel(PRICES)
_KERNELS = MappingProxyType({"amx": _Kernel(FormPrices(mac_ps=1.3), 16, 64)})  # those far from the prediction's


@dataclass(frozen=True)
class Operations:
    """Numbers of operations of a layer's products."""

    macs: float  # byte by int8 multiply-adds
    words: float  # cut into limbs or unpacked; drawn from a seed or put together from limbs counts twice
    ntts: float  # coefficients transformed
    pairs: float  # values multiplied in NTT form

    def seconds(self, prices: Prices) -> float:
        """Predicted."""
        nanoseconds = self.words * prices.word_ns + self.ntts * prices.ntt_ns + self.pairs * prices.pair_ns
        return 1e-12 * self.macs * prices.mac_ps + 1e-9 * nanoseconds


@dataclass(frozen=True)
class ProductForm:
    """The form that is faster by its prices, and the predicted seconds of both."""

    name: FormName
    limbs_s: float
    ntt_s: float


def product_form(layout: Layout, q_bits: int, requests: int = 1, kernel: str | None = None) -> ProductForm:
    """The form for a layer's products at one batch size, where a seed serves so many requests.

    Args:
        kernel: of the server that asks; without it, the form is a prediction for any machine.
    """
    server = _ANY if kernel is None else _KERNELS.get(kernel, _ANY)
    both = _limbs(layout, q_bits, 1 / requests, server), _ntt(layout, 1 / requests)
    limbs_s, ntt_s = (operations.seconds(server.prices) for operations in both)
    return ProductForm("ntt" if ntt_s < limbs_s else "limbs", limbs_s, ntt_s)


def form_operations(layout: Layout, q_bits: int, requests: int = 1, a_share: float = 1.0) -> tuple[FormName, Operations]:
    """The form for a layer's products, and what there is to do in it for a request that computes this share of the `a` half."""
    name = product_form(layout, q_bits, requests).name
    return name, _ntt(layout, a_share) if name == "ntt" else _limbs(layout, q_bits, a_share)


def limbs_operations(layout: Layout, q_bits: int) -> Operations:
    """What there is to do for a request that brings seeds, as a product of limbs."""
    return _limbs(layout, q_bits, 1.0)


def limbs_of_b_seconds(layout: Layout, q_bits: int) -> float:
    """Predicted seconds of a product of limbs that computes the `b` half alone."""
    return _limbs(layout, q_bits, 0.0).seconds(PRICES)


def _limbs(layout: Layout, q_bits: int, a_share: float, kernel: _Kernel = _ANY) -> Operations:
    dimension, blocks, groups = layout.packing.dimension, layout.blocks, a_share * groups_of(layout.blocks)
    span = min(dimension, layout.packing.p_out * _up(layout.area, STRIP))
    coefficients = groups * dimension + blocks * span
    terms = layout.packing.p_in * layout.packing.p_out * len(layout.geometry.taps)
    return Operations(
        macs=_up(layout.answers, kernel.rows) * _up(layout.uploads, kernel.channels) * terms * -(-q_bits // 8) * coefficients,
        words=layout.uploads * dimension * (blocks + 3 * groups) + 2 * layout.answers * coefficients,
        ntts=layout.uploads * dimension * groups,  # `a` is drawn in NTT order
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
    """The next multiple of a step."""
    return -(-count // step) * step
