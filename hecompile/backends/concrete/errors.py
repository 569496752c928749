"""What is said of the probability of an error, which is declared for every result or lookup of a circuit."""

from __future__ import annotations

import math

__all__ = ["error_of"]


def error_of(p_error: float, chances: int) -> str:
    """How likely an error is, for people: of one result or lookup, and of one request with so many of them at batch one."""
    return f"p_error 2^{math.log2(p_error):.0f}, 2^{math.log2(min(1.0, p_error * chances)):.0f} a request"
