"""Keeps torch's transformers from inspecting their masks while they are traced.

`nn.TransformerEncoder` and `nn.TransformerDecoder` compare a mask with a causal one to give their layers a hint for faster kernels.
torch.export cannot trace that, since it depends on values. The layers get the mask itself in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

__all__ = ["masks_as_given"]


@contextmanager
def masks_as_given() -> Iterator[None]:
    """Within the block a mask counts as causal only where the caller says so."""
    with patch("torch.nn.modules.transformer._detect_is_causal_mask", lambda mask, is_causal, size: bool(is_causal)):
        yield
