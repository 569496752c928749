"""Writes and reads names and numbers as people do: flags, lists, similar names, numbers such as 2^-40."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

__all__ = ["byte_text", "flag_of", "in_words", "near", "number", "number_text", "seconds_text"]

_PATTERN = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*(?:\^|\*\*)\s*([+-]?\d{1,4}))?\s*")


def flag_of(name: str) -> str:
    """Return the flag of an option in a shell, such as `--key-mib` for `key_mib`."""
    return "--" + name.replace("_", "-")


def near(name: str, known: Sequence[str]) -> str:
    """Return the known names that are similar to a name, in words; empty if there are none."""
    return in_words(get_close_matches(name, known, n=3, cutoff=0.6), "or")


def in_words(names: Sequence[str], joint: str) -> str:
    """Return the names as a list in words: `a`, `a or b`, `a, b or c`."""
    return f" {joint} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def number_text(value: Any) -> str:
    """Return a number as text, such as 2^-40, 0.25 or 128."""
    mantissa, exponent = math.frexp(value) if math.isfinite(value) else (0.0, 0)
    if mantissa == 0.5 and exponent <= -9:
        return f"2^{exponent - 1}"
    return str(value) if isinstance(value, Integral) else f"{value:.12g}"


def number(value: Any) -> float | None:
    """Return the finite number that a number or a text such as 25, 1e-6, 2^-40 or 2**-40 stands for; None for anything else."""
    if isinstance(value, str):
        match = _PATTERN.fullmatch(value)
        if match is None:
            return None
        base, power = match.groups()
        try:
            value = float(base) ** int(power or 1)
        except (OverflowError, ZeroDivisionError):
            return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)


def byte_text(count: float) -> str:
    """Return a number of bytes as text, in powers of ten: 340 B, 12.3 kB, 1.6 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"


def seconds_text(seconds: float) -> str:
    """Return a time as text: 43 µs, 71.6 ms, 2.3 s, 14 min 5 s, 2 h 12 min."""
    if seconds >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours:,} h {minutes} min"
    if seconds >= 600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    if seconds >= 0.99995:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1e6:.0f} µs" if 0 < seconds < 9.95e-5 else f"{seconds * 1e3:.1f} ms"
