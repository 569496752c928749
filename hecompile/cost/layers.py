"""A rough cost of one linear layer under the integer backends, from its shape alone (batch one)."""

from __future__ import annotations

from hecompile.backends.base import Cost, Machine
from hecompile.backends.bfv.bits import packed_bytes
from hecompile.backends.packing import layouts
from hecompile.ir.products import Product

__all__ = ["layer_cost"]

_DIMENSION, _Q_BITS = 2048, 50  # what most layers get


def layer_cost(product: Product, machine: Machine) -> Cost:
    """The cheapest packing at a typical ring, without proving it: proofs are made after the partition."""
    found = layouts(product.geometry, _DIMENSION, 1) or layouts(product.geometry, 8 * _DIMENSION, 1)
    if not found:
        return Cost(rounds=1)
    layout = min(found, key=lambda each: each.blocks * (each.uploads + each.answers))
    kcoef = layout.packing.dimension / 1024
    up, down = layout.blocks * layout.uploads, layout.blocks * layout.answers
    channels, taps = layout.shifts.shape
    macs = 2 * layout.packing.dimension * channels * taps * layout.answers * layout.packing.p_out * layout.blocks
    word = packed_bytes(layout.packing.dimension, _Q_BITS)
    return Cost(
        server_s=macs * -(-_Q_BITS // 8) / machine.product_gmac_per_s * 1e-9,
        client_s=(up * machine.encrypt_us_per_kcoef + down * machine.decrypt_us_per_kcoef) * kcoef * 1e-6,
        up_bytes=up * word,
        down_bytes=2 * down * word,
        rounds=1,
    )
