"""Limits of the integers that enter a circuit, by entry and by window (see `windows.py`)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMIT", "WIDTHS", "ValueLimits"]

WIDTHS = (2, 40)  # the least and the most bits of a message
LIMIT = 127  # of an entry: values have about eight bits, and more gain less than 2 dB on the digits model


@dataclass(frozen=True)
class ValueLimits:
    """The limits that the client keeps: the magnitude of every entry, and the 2-norm of every window of a picture."""

    entry: int
    window: int
