"""Masks of torch's transformers as they are given.

`nn.TransformerEncoder` and `nn.TransformerDecoder` compare a mask with a causal one and tell their layers what came out. The layers
get the mask all the same: it is a hint for kernels, which torch.export cannot follow, as it depends on values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

__all__ = ["masks_as_given"]


@contextmanager
def masks_as_given() -> Iterator[None]:
    """Within, a mask is causal only where the caller says so."""
    with patch("torch.nn.modules.transformer._detect_is_causal_mask", lambda mask, is_causal, size: bool(is_causal)):
        yield
