"""ONNX Runtime's fused attention: softmax(Q K^T) V that never holds the scores of all heads at once.

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
WIDEST_HEAD = 512  # channels; the kernel's blocks of keys shrink with the width, and of wider heads little is left of them

_SC_LEVEL2_CACHE_SIZE = 191  # of glibc, where ONNX Runtime asks for it; Python has no name for it


def attention_holds_scores() -> bool:
    """Whether ONNX Runtime holds all scores on this machine after all, as where it does not know the second cache's size.

    True is also the answer where this library cannot see what ONNX Runtime sees (systems other than Linux).
    """
    if os.environ.get("ORT_DISABLE_FLASH_ATTENTION", "0") != "0" or sys.platform != "linux":
        return True
    try:
        return os.sysconf(_SC_LEVEL2_CACHE_SIZE) <= 0
    except OSError:
        return True


def with_stand_ins(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, with standard operators of the same result in shape and type where there is fused attention.

    onnx infers nothing of operators that are not its own. One head stands for all: (B, L, E) (B, E, S) (B, S, F) -> (B, L, F). The
    names of what lies between have a space, which no name in a client's region has.
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
