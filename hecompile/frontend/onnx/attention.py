"""Importer of ONNX's Attention, softmax(Q K^T) V in one operator, which exporters write from opset 23 on."""

from __future__ import annotations

import math

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Known, Value, imports

__all__: list[str] = []  # importers register themselves


@imports("Attention")
def _attention(call: Call) -> Value:
    """Rewrite attention on separate heads (B, H, L, E), or on merged heads (B, L, H E) with their number as an attribute."""
    if call.attr("softcap", 0.0) or any(call.maybe(index) is not None for index in (4, 5, 6)):
        raise CompileError(
            Diagnostic(
                "Attention with a cache or softcap is not supported", help="export the model without a cache of keys and values"
            )
        )
    query, key, value = (call.input(index) for index in range(3))
    side_by_side = len(call.shape(query)) == 3
    if side_by_side:
        query = _apart(call, query, call.attr("q_num_heads", 0))
        key, value = (_apart(call, part, call.attr("kv_num_heads", 0)) for part in (key, value))
    heads, shared = call.size(query, 1), call.size(key, 1)
    if heads % shared:
        raise CompileError(f"Attention with {heads} heads of queries and {shared} of keys does not fit")
    if heads != shared:
        places = [head * shared // heads for head in range(heads)]
        key, value = (call.entries(part, 1, places) for part in (key, value))
    scale = call.attr("scale") or 1 / math.sqrt(call.size(query, 3))
    mask, causal = call.maybe(3), bool(call.attr("is_causal", 0))
    if causal and mask is not None:
        mask, causal = _causal(call, mask, call.size(query, 2), call.size(key, 2)), False
    result = call.emit("aten.scaled_dot_product_attention.default", query, key, value, mask, 0.0, causal, scale=scale)
    if not side_by_side:
        return result
    batch, _, length, width = call.shape(result)
    turned = call.emit("aten.permute.default", result, [0, 2, 1, 3])
    return call.reshape(turned, [batch, length, heads * int(str(width))])


def _apart(call: Call, x: Value, heads: int) -> Value:
    """Return (B, L, H E) as (B, H, L, E)."""
    batch, length, width = call.shape(x)[0], call.shape(x)[1], call.size(x, 2)
    if heads < 1 or width % heads:
        raise CompileError(f"Attention cannot divide {width} channels among {heads} heads")
    return call.emit("aten.permute.default", call.reshape(x, [batch, length, heads, width // heads]), [0, 2, 1, 3])


def _causal(call: Call, mask: Value, rows: int, columns: int) -> Value:
    """Return the mask with all later positions masked too."""
    earlier = torch.ones(rows, columns, dtype=torch.bool).tril()
    if not call.floating(mask):
        return call.emit("aten.logical_and.default", mask, Known(earlier, earlier, "causal"))
    never = torch.tensor(-math.inf)
    return call.emit("aten.where.self", Known(earlier, earlier, "causal"), mask, Known(never, never, "never"))
