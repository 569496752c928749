"""The options that all backends on Concrete have."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.panels import Panel, option

__all__ = ["ConcreteOptions"]


@dataclass(frozen=True)
class ConcreteOptions(Panel):
    """How likely a wrong result may be."""

    p_error: float = option(
        2.0**-40, help="largest probability that one result, or one table lookup, is wrong", at_least=2.0**-128, at_most=2.0**-10
    )
