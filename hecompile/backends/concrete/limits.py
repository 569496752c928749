"""Limits of the values of a circuit: every entry, and every window (see `windows`)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMIT", "WIDTHS", "Limits"]

WIDTHS = (2, 40)  # bits of a message
LIMIT = 127  # values have some eight bits: digits gains less than 2 dB from more


@dataclass(frozen=True)
class Limits:
    """What the client keeps its integers within: every entry, and the 2-norm of every window."""

    entry: int
    window: int
