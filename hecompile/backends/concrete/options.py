"""The options of every backend on Concrete."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.panels import Panel, option

__all__ = ["ConcreteOptions"]


@dataclass(frozen=True)
class ConcreteOptions(Panel):
    """How often a result may be wrong."""

    p_error: float = option(
        2.0**-40, help="most probability that one result, or one lookup, is wrong", at_least=2.0**-128, at_most=2.0**-10
    )
