"""How the probability of an error is written. It is declared for every result or table lookup of a circuit."""

from __future__ import annotations

import math

__all__ = ["error_of"]


def error_of(p_error: float, chances: int) -> str:
    """Text such as "p_error 2^-40, 2^-29 a request": the bound for one result, and its union bound over `chances` results."""
    return f"p_error 2^{math.log2(p_error):.0f}, 2^{math.log2(min(1.0, p_error * chances)):.0f} a request"
