"""How many threads torch computes with: small operators wait for a second thread longer than they compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_thread"]


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """Within it torch runs each operator on one thread, if `when`; afterwards on as many as before."""
    import torch

    before = torch.get_num_threads()
    if when:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
