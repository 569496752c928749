"""ONNX Runtime's fused attention, which computes softmax(Q K^T) V without holding the scores of all heads at once.

The standard operator `Attention` needs a newer operator set, and its kernel for CPUs holds all scores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["DOMAIN", "DOMAIN_VERSION", "FUSED", "WIDEST_HEAD", "attention_holds_scores", "with_stand_ins"]

DOMAIN, DOMAIN_VERSION, FUSED = "com.microsoft", 1, "MultiHeadAttention"
WIDEST_HEAD = 512  # channels; the wider a head, the smaller are the kernel's blocks of keys, and wider ones have too small blocks

_SC_LEVEL2_CACHE_SIZE = 191  # the number by which glibc is asked for the size of the second-level cache; Python has no name for it


def attention_holds_scores() -> bool:
    """Return whether ONNX Runtime holds all scores on this machine, which it does if it cannot find the second-level cache's size.

    It is True as well on systems other than Linux, where this cannot be found out.
    """
    if os.environ.get("ORT_DISABLE_FLASH_ATTENTION", "0") != "0" or sys.platform != "linux":
        return True
    try:
        return os.sysconf(_SC_LEVEL2_CACHE_SIZE) <= 0
    except OSError:
        return True


def with_stand_ins(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, with standard operators in place of fused attention whose result has the same shape and type.

    onnx infers shapes for its own operators alone. One head stands for all: (B, L, E) (B, E, S) (B, S, F) -> (B, L, F). The names
    of new values have a space, which no name in a client's region has.
    """
    from onnx import helper

    for node in nodes:
        if node.op_type != FUSED:
            yield node
            continue
        query, key, value = node.input
        turned, scores = f"{node.output[0]} turned", f"{node.output[0]} scores"
        yield helper.make_node("Transpose", [key], [turned], perm=[0, 2, 1])
        yield helper.make_node("MatMul", [query, turned], [scores])
        yield helper.make_node("MatMul", [scores, value], [node.output[0]])
