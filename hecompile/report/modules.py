"""Paths of modules as people read them: the layers of one request in a line, folded where the line is too long."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["folded", "grouped"]

MOST_LISTED = 4  # parts of a line, each one path or one family of paths


def grouped(paths: Sequence[str]) -> str:
    """Layers in one line: `mid_block.attentions.0.{to_q, to_k, to_v}`, `conv_in, 8 x time_emb_proj`; a layer that was divided
    stands once, with the number of its parts."""
    counts = Counter(paths)
    parents: dict[str, list[str]] = {}
    for path, count in counts.items():
        parent, _, name = path.rpartition(".")
        parents.setdefault(parent, []).append(f"{name} ({count} parts)" if count > 1 else name)
    if len(parents) <= 2:
        return ", ".join(_family(parent, names) for parent, names in parents.items())
    kinds: dict[str, list[str]] = {}
    for path in counts:
        kinds.setdefault(_kind(path), []).append(path)
    parts = [paths[0] if len(paths) == 1 else f"{len(paths)} x {kind}" for kind, paths in kinds.items()]
    if len(parts) > MOST_LISTED:
        parts = [*parts[: MOST_LISTED - 1], f"{len(parts) - MOST_LISTED + 1} more kinds"]
    return ", ".join(parts)


def _kind(path: str) -> str:
    """The name that layers of one kind share: the last part of a path, with the list that it is a place in."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]


def _family(parent: str, names: Sequence[str]) -> str:
    joined = names[0] if len(names) == 1 else f"{{{', '.join(names)}}}" if parent else ", ".join(names)
    return f"{parent}.{joined}" if parent else joined


def folded(text: str, width: int) -> str:
    """The text in lines of at most this many columns, broken after dots and blanks; a longer piece has its own line."""
    lines = [""]
    for piece in re.findall(r"[^. ]*[. ]?", text):
        if lines[-1].strip() and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("  ")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
