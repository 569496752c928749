"""The client's half of a `bfv` region: it draws fresh secrets, encrypts and decrypts. The server never imports this module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hecompile import _core
from hecompile.backends.bfv.expansion import contexts
from hecompile.backends.bfv.kernels import proved_kernel
from hecompile.backends.bfv.messages import FIRST, LATER, LayerSizes, core_layout, layer_sizes, mode_bytes
from hecompile.backends.bfv.places import client_layer
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.revealed import pack_revealed, unpack_sums
from hecompile.backends.bfv.values import Reading, revealed_values, to_values
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import Dequantizer, leading
from hecompile.ir.halves import Array

__all__ = ["BfvClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """Kept from a request to its reply: the secrets, and every layer's input shape without the channels."""

    request: _core.Request
    leading: list[tuple[int, ...]]
    batch: int
    mode: int


@dataclass(frozen=True, eq=False)
class _Layers:
    """The layers of a region at one batch size as objects of the core."""

    clients: list[_core.ClientLayer]
    layouts: list[_core.Layout]


class BfvClient(RegionClient):
    """Encrypts a region's inputs and decrypts its outputs. Every request has secrets of its own."""

    def __init__(self, program: RegionProgram, dequantizers: list[Dequantizer]) -> None:
        proved_kernel()
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._dequantizers = program, dequantizers
        self._contexts = contexts(program, len(program.body.layers))
        self._layers, self._sizes = cache(self._make_layers), cache(self._make_sizes)
        self._run: _core.Run | None = None

    def start_run(self) -> None:
        self._run = _core.Run() if mode_bytes(self._program) else None

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named, layers = dict(zip(self.inputs, values, strict=True)), self._program.body.layers
        given = [np.ascontiguousarray(named[layer.input], np.float32) for layer in layers]
        for layer, value in zip(layers, given, strict=True):
            count = layer.geometry.pictures(value.shape)
            if count != batch * layer.images_per_sample:
                raise ProtocolError(f"layer of {layer.input}: {count} pictures for a batch of {batch}")
        sizes = self._sizes(batch, FIRST)
        offsets = np.cumsum([0, *(size.up_words + size.up_seeds for size in sizes)]).tolist()
        view = memoryview(_core.traveling_bytes(offsets[-1]))  # type: ignore[arg-type]  # numpy's arrays are buffers
        request = _core.encrypt(self._layers(batch).clients, given, self._contexts, view, offsets[:-1], self._run)
        mode = FIRST if request.brings_seeds else LATER
        parts: list[Buffer] = [bytes([mode])] * mode_bytes(self._program)
        for index, (layer, size) in enumerate(zip(layers, self._sizes(batch, mode), strict=True)):
            parts.append(view[offsets[index] : offsets[index] + size.up_words + size.up_seeds])
            if size.up_revealed:
                parts.append(pack_revealed(layer, revealed_values(layer, given[index], np.array(request.scales(index)))))
        around = [leading(value, layer.geometry) for layer, value in zip(layers, given, strict=True)]
        return parts, _Pending(sum(size.down for size in self._sizes(batch, mode)), request, around, batch, mode)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("a reply to another backend's request")
        if len(reply) != pending.reply_size:
            raise ProtocolError(f"region '{self._program.region}': a reply of {len(reply)} bytes, expected {pending.reply_size}")
        batch, layers = pending.batch, self._program.body.layers
        sizes = self._sizes(batch, pending.mode)
        ends = np.cumsum([size.down for size in sizes]).tolist()
        offsets = [end - size.down for end, size in zip(ends, sizes, strict=True)]
        view = memoryview(reply)
        sums = [
            unpack_sums(view[end - size.down_sums : end], layer, batch)
            for layer, size, end in zip(layers, sizes, ends, strict=True)
        ]
        results = [_results(layer, around, batch) for layer, around in zip(layers, pending.leading, strict=True)]
        try:
            _core.decrypt(pending.request, reply, offsets, results)
        except ValueError as error:
            raise ProtocolError(f"region '{self._program.region}': {error}") from error
        outputs: list[Array] = []
        for index, (layer, result) in enumerate(zip(layers, results, strict=True)):
            if isinstance(result, list):
                outputs += result
            else:
                reading = Reading(np.array(pending.request.scales(index)), pending.leading[index])
                outputs += to_values(layer, self._dequantizers[index], result, reading, batch, sums[index])
        return outputs

    def request_bytes(self, batch: int) -> int:
        return mode_bytes(self._program) + sum(size.up for size in self._sizes(batch, FIRST))

    def reply_bytes(self, batch: int) -> int:
        return sum(size.down for size in self._sizes(batch, FIRST))

    def _make_layers(self, batch: int) -> _Layers:
        layers = self._program.body.layers
        layouts = [core_layout(layer, batch) for layer in layers]
        clients = [client_layer(*parts, batch) for parts in zip(layers, layouts, self._dequantizers, strict=True)]
        return _Layers(clients, layouts)

    def _make_sizes(self, batch: int, mode: int) -> list[LayerSizes]:
        layers = self._program.body.layers
        return [layer_sizes(layer, layout, batch, mode) for layer, layout in zip(layers, self._layers(batch).layouts, strict=True)]


def _results(layer: LayerProgram, around: tuple[int, ...], batch: int) -> list[Array] | Array:
    """Empty arrays for a layer's results: float32 tensors of its parts, or, with tiles, int64 coefficients."""
    geometry, pictures = layer.geometry, batch * layer.images_per_sample
    if layer.split.tiles:
        layout = layer.layout(batch)
        return np.empty((layout.blocks, layout.answers, layout.gather_count), np.int64)
    if geometry.tokens:
        return [_kept((*around, part.outputs)) for part in layer.parts]
    return [_kept((pictures, part.outputs, *geometry.out_size)) for part in layer.parts]


def _kept(shape: tuple[int, ...]) -> Array:
    """An uninitialised float32 array in memory that is kept from call to call: fresh memory would take as long as decrypting."""
    return _core.traveling_bytes(4 * math.prod(shape)).view(np.float32).reshape(shape)
