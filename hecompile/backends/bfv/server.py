"""The server's half of a `bfv` region: int8 weights and public words. No field, argument or import of it can hold a secret."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.expansion import contexts
from hecompile.backends.bfv.forms import KEPT_BYTES, FormName, product_form
from hecompile.backends.bfv.kernels import proved_kernel
from hecompile.backends.bfv.messages import FIRST, LATER, LayerSizes, core_layout, layer_sizes, mode_bytes
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.revealed import pack_sums, revealed_sums, unpack_revealed
from hecompile.backends.bfv.revealed_product import RevealedProduct, in_core
from hecompile.backends.bfv.weights import LayerWeights
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError, needing

if TYPE_CHECKING:
    from hecompile.backends.bfv.device_product import DeviceProduct

__all__ = ["BfvServer"]

Integers = npt.NDArray[np.int64]


class BfvServer(RegionServer):
    """Answers requests for one region, and keeps nothing from one request to the next."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights]) -> None:
        proved_kernel()  # raises on a machine whose kernel computes wrongly
        self.max_batch = program.max_batch
        self._program, self._weights = program, weights
        self._contexts = contexts(program, len(program.body.layers))
        self._layouts, self._sizes = cache(self._make_layouts), cache(self._make_sizes)
        self._product = cache(self._make_product)  # of revealed entries
        self._ordered: dict[tuple[object, ...], _core.Weights] = {}
        self._ordering, self._in_order = threading.Lock(), cache(self._order)
        self._on_device: Callable[[int], list[DeviceProduct]] | None = None
        self._in_order(1)  # other batch sizes mostly use the same order, or are ordered when first asked for

    def request_bytes(self, batch: int) -> int:
        return mode_bytes(self._program) + sum(size.up for size in self._sizes(batch, FIRST))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in the order of the product."""
        return sum(weights.bytes for weights in self._ordered.values())

    def use_device(self, name: str) -> None:
        with needing("--device", "client"):
            from hecompile.backends.bfv.device_product import DeviceProduct, device_of

        device = device_of(name)

        def products(batch: int) -> list[DeviceProduct]:
            layers = zip(self._program.body.layers, self._weights, strict=True)
            return [DeviceProduct(layer, batch, weights.encrypted, device) for layer, weights in layers]

        self._on_device = cache(products)
        self._on_device(1)
        self._in_order.cache_clear()
        self._ordered.clear()

    def form(self, index: int, batch: int) -> FormName:
        """The form in which the products of a layer are computed, by its sizes and this machine's kernel. Results do not differ."""
        layer = self._program.body.layers[index]
        return product_form(layer.layout(batch), layer.parameters.q_bits, layer.requests, proved_kernel()).name

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        mode, start = self._mode(payload), mode_bytes(self._program)
        sizes = self._sizes(batch, mode)
        expected = start + sum(size.up for size in sizes)
        if len(payload) != expected:
            raise ProtocolError(f"region '{self._program.region}', batch {batch}: {len(payload)} bytes, expected {expected}")
        reply, view, place = _core.traveling_bytes(sum(size.down for size in sizes)).data, memoryview(payload), 0
        for index, (layer, size) in enumerate(zip(self._program.body.layers, sizes, strict=True)):
            part = view[start : start + size.up]
            sums = self._sums(part[size.up_words + size.up_seeds :], index, batch) if layer.split.reveals else None
            added = None if sums is None or layer.split.tiles else layer.layout(batch).scatter(sums)
            seeds = part[size.up_words : size.up_words + size.up_seeds] if size.up_seeds else None
            reason = self._answer(index, batch, part, seeds, added, reply, place)
            if reason is not None:
                raise ProtocolError(f"layer of {layer.input}: {reason}")
            if sums is not None and layer.split.tiles:
                reply[place + size.down - size.down_sums : place + size.down] = pack_sums(layer, sums)
            start, place = start + size.up, place + size.down
        return reply

    def _answer(
        self,
        index: int,
        batch: int,
        words: memoryview,
        seeds: memoryview | None,
        added: Integers | None,
        reply: memoryview,
        place: int,
    ) -> str | None:
        """Write a layer's answers into the reply. Returns None, or the reason why the request is refused."""
        context = self._contexts[index]
        if self._on_device is not None:
            return self._on_device(batch)[index].evaluate(words, seeds, context, added, reply, place)
        return _core.evaluate(self._layouts(batch)[index], self._in_order(batch)[index], words, seeds, context, added, reply, place)

    def _mode(self, payload: Buffer) -> int:
        """`FIRST` if a request brings seeds, else `LATER`. Raises `ProtocolError` for a byte that is neither."""
        if not mode_bytes(self._program):
            return FIRST
        if not payload or payload[0] not in (FIRST, LATER):
            raise ProtocolError(
                f"region '{self._program.region}': the first byte of a request must be {FIRST} (brings seeds) or {LATER}"
            )
        return payload[0]

    def _sums(self, data: memoryview, index: int, batch: int) -> Integers:
        """The sums over the revealed entries, (E, rows, *grid). Raises `ProtocolError` for entries that no quantiser gives."""
        layer = self._program.body.layers[index]
        revealed_weights, integers = self._weights[index].for_revealed(layer.split), unpack_revealed(data, layer, batch)
        product = self._product(index, batch)
        return revealed_sums(layer, integers, revealed_weights) if product is None else product.sums(integers)

    def _make_product(self, index: int, batch: int) -> RevealedProduct | None:
        """The object that multiplies the revealed part of a large layer, or None for a small layer."""
        layer = self._program.body.layers[index]
        revealed_weights = self._weights[index].for_revealed(layer.split)
        return RevealedProduct(layer, batch, revealed_weights) if in_core(layer, revealed_weights) else None

    def _order(self, batch: int) -> list[_core.Weights]:
        """All weights in the order of the product, which depends on the packing and so possibly on the batch size."""
        ordered = []
        with self._ordering:
            for index, (layer, layout) in enumerate(zip(self._program.body.layers, self._layouts(batch), strict=True)):
                transform = self.form(index, batch) == "ntt"
                key = (index, transform, tuple(layout.offsets))
                if key not in self._ordered:
                    self._ordered[key] = _ordered(layer, layout, self._weights[index].encrypted, transform)
                ordered.append(self._ordered[key])
        return ordered

    def _make_layouts(self, batch: int) -> list[_core.Layout]:
        return [core_layout(layer, batch) for layer in self._program.body.layers]

    def _make_sizes(self, batch: int, mode: int) -> list[LayerSizes]:
        layers = self._program.body.layers
        return [layer_sizes(layer, layout, batch, mode) for layer, layout in zip(layers, self._layouts(batch), strict=True)]


def _ordered(layer: LayerProgram, layout: _core.Layout, weights: npt.NDArray[np.int8], transform: bool) -> _core.Weights:
    """The weights in the order of the product. Raises `ProtocolError` for weights that hecompile does not write."""
    try:
        return _core.make_weights(layout, np.ascontiguousarray(weights), transform, KEPT_BYTES if transform else 0)
    except ValueError as error:
        raise ProtocolError(f"layer of {layer.input}: {error}") from error
