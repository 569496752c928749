"""Writes attention in ONNX: as ONNX Runtime's fused operator where possible, else in blocks of queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.errors import InternalError
from hecompile.ir.graph import concrete_shape, info
from hecompile.onnx_attention import DOMAIN, FUSED, WIDEST_HEAD
from hecompile.onnx_export.writer import Writer, emits

if TYPE_CHECKING:
    from torch import fx

Args = Sequence[Any]
BLOCK_BYTES = 64 << 20  # largest size of the attention scores of one block, for one picture
TURN = [0, 2, 1, 3]  # (B, H, L, D) to (B, L, H, D) and back


@emits("scaled_dot_product_attention.default")
def _attention(w: Writer, node: fx.Node, args: Args) -> str:
    query, key, value, mask, dropout, causal = args[:6]
    if causal or dropout:
        raise InternalError("attention with a causal mask or dropout")
    scale = float(node.kwargs["scale"])  # type: ignore[arg-type]
    if mask is None and scale and _is_fusible(node):
        return _fused(w, node, scale)
    return _in_blocks(w, node, (query, key, value, mask), scale)


def _is_fusible(node: fx.Node) -> bool:
    """Return whether all three are (B, H, L, D) or (B, L, D) float32 with the same B and H, and heads are not too wide."""
    query, key, value = (info(side) for side in node.args[:3])
    rank = len(query.shape)
    return (
        rank in (3, 4)
        and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        and all(isinstance(size, int) for size in (*query.shape[1:-2], query.shape[-1], value.shape[-1]))
        and max(int(str(query.shape[-1])), int(str(value.shape[-1]))) <= WIDEST_HEAD
        and {query.dtype, key.dtype, value.dtype} == {"float32"}
    )


def _fused(w: Writer, node: fx.Node, scale: float) -> str:
    shape = info(node).shape
    heads = int(str(shape[1])) if len(shape) == 4 else 1
    sides = [_heads_together(w, side) for side in node.args[:3]]  # type: ignore[arg-type]
    merged = w.call(FUSED, sides, domain=DOMAIN, num_heads=heads, scale=scale)  # (B, L, H D)
    if len(shape) == 3:
        return merged
    return w.call("Transpose", [w.call("Reshape", [merged, w.ints([0, 0, heads, int(str(shape[3]))])])], perm=TURN)


def _heads_together(w: Writer, side: fx.Node) -> str:
    """Return (B, H, L, D) as (B, L, H D). If it was made by just the inverse moves, no data is moved."""
    shape = info(side).shape
    if len(shape) == 3:
        return w.names[side]
    heads, width = int(str(shape[1])), int(str(shape[3]))
    if str(side.target) == "aten.permute.default" and list(side.args[1]) == TURN:  # type: ignore[arg-type]
        parted: Any = side.args[0]
        source: Any = parted.args[0] if str(parted.target) == "aten.reshape.default" else None
        if source is not None and tuple(info(source).shape) == (shape[0], shape[2], heads * width):
            return w.names[source]
        turned = w.names[parted]
    else:
        turned = w.call("Transpose", [w.names[side]], perm=TURN)
    return w.call("Reshape", [turned, w.ints([0, 0, heads * width])])


def _in_blocks(w: Writer, node: fx.Node, sides: Sequence[Any], scale: float) -> str:
    """Compute scores, softmax and product for as many queries at once as `BLOCK_BYTES` allows, without control flow."""
    query, key, value, mask = sides
    rank, queries, keys = len(info(node).shape), info(node.args[0]).shape[-2], info(node.args[1]).shape[-2]
    root = w.constant(
        math.sqrt(abs(scale)), np.float32
    )  # like torch, queries and keys are each multiplied by the square root of the scale
    scaled = w.call("Mul", [query, root if scale >= 0 else w.constant(-math.sqrt(-scale), np.float32)])
    turned = w.call("Mul", [w.call("Transpose", [key], perm=[*range(rank - 2), rank - 1, rank - 2]), root])
    size = 4 * math.prod(concrete_shape((*info(node).shape[:-1], keys), 1))
    length = int(str(queries)) if isinstance(queries, int) else 0
    blocks = min(length, -(-size // BLOCK_BYTES))
    if blocks <= 1:
        return _attended(w, node, scaled, turned, value, mask)
    step, pieces = -(-length // blocks), []
    for start in range(0, length, step):
        bounds = (start, min(length, start + step))
        rows = mask
        if mask is not None and info(node.args[3]).shape[-2] == length:
            rows = _rows(w, mask, len(info(node.args[3]).shape) - 2, bounds)
        pieces.append(_attended(w, node, _rows(w, scaled, rank - 2, bounds), turned, value, rows))
    return w.call("Concat", pieces, axis=rank - 2)


def _rows(w: Writer, name: str, axis: int, bounds: tuple[int, int]) -> str:
    start, stop = bounds
    return w.call("Slice", [name, w.ints([start]), w.ints([stop]), w.ints([axis]), w.ints([1])])


def _attended(w: Writer, node: fx.Node, query: str, turned: str, value: str, mask: str | None) -> str:
    scores = w.call("MatMul", [query, turned])
    if mask is not None:
        if info(node.args[3]).dtype == "bool":
            mask = w.call("Where", [mask, w.constant(0.0, np.float32), w.constant(-np.inf, np.float32)])
        scores = w.call("Add", [scores, mask])
    return w.call("MatMul", [w.call("Softmax", [scores], axis=-1), value])
