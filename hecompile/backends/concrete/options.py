"""The options that all regions of Concrete have."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConcreteOptions"]


@dataclass(frozen=True)
class ConcreteOptions:
    """What may be chosen for circuits of Concrete."""

    p_error: float = 2.0**-40  # probability that one result, or lookup, is wrong
