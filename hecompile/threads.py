"""Sets the number of threads that torch uses. For small operators a second thread costs more time than it saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_thread"]


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """A context in which torch uses one thread, if `when` is True. Afterwards it uses as many as before."""
    import torch

    before = torch.get_num_threads()
    if when:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
