"""Rules for padding, in every mode and for any number of axes (see `rewrites`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.moves import entries
from hecompile.frontend.canonical.rewrites import RULES, Rule, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch

__all__ = ["padded"]

Places = Callable[[int, int, int], list[int]]  # from the size of an axis and the entries before and after it to indices


@rule("constant_pad_nd.default")
def padded(b: Builder, x: fx.Node, pad: Sequence[int], value: float | None = 0.0) -> fx.Node:
    """Return x padded with a number, with pairs counted from the last dimension; negative amounts cut entries off."""
    if not any(pad):
        return x
    if any(pad[2 * place : 2 * place + 2] != [0, 0] for place in range(len(pad) // 2) if _grows(b, x, place)):
        raise CompileError(
            Diagnostic("cannot pad the batch dimension", source=b.origin.source, help="pad the other dimensions only")
        )
    return b.emit("aten.constant_pad_nd.default", x, list(pad), value or 0.0)


def _grows(b: Builder, x: fx.Node, place: int) -> bool:
    return isinstance(b.shape(x)[-1 - place], Batch)


def _reflected(size: int, before: int, after: int) -> list[int]:
    last = size - 1
    return [last - abs(last - abs(place)) for place in range(-before, size + after)]


def _repeated(size: int, before: int, after: int) -> list[int]:
    return [min(max(place, 0), size - 1) for place in range(-before, size + after)]


def _around(size: int, before: int, after: int) -> list[int]:
    own = list(range(size))[max(-before, 0) : size + min(after, 0)]
    return [*own[len(own) - max(before, 0) :], *own, *own[: max(after, 0)]]


_MODES: dict[str, tuple[str, Places]] = {
    "reflect": ("reflection_pad", _reflected), "replicate": ("replication_pad", _repeated), "circular": ("", _around),
}  # fmt: skip


def _by_mode(mode: str) -> Rule:
    name, places = _MODES[mode]

    def emit(b: Builder, x: fx.Node, pad: Sequence[int]) -> fx.Node:
        if name and len(pad) == len(b.shape(x)) == 4 and min(pad) >= 0:
            return b.emit(f"aten.{name}2d.default", x, list(pad))
        for place in range(len(pad) // 2):
            dim, before, after = len(b.shape(x)) - 1 - place, pad[2 * place], pad[2 * place + 1]
            if before or after:
                size = b.shape(x)[dim]
                x = entries(b, x, dim, places(0 if isinstance(size, Batch) else size, before, after))
        return x

    return emit


for _mode, (_name, _) in _MODES.items():
    for _rank in (1, 2, 3) if _name else ():
        RULES[f"aten.{_name}{_rank}d.default"] = _by_mode(_mode)


@rule("pad.default")
def _pad(b: Builder, x: fx.Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> fx.Node:
    if mode == "constant":
        return padded(b, x, list(pad), value)
    if mode not in _MODES:
        known = ", ".join(("constant", *_MODES))
        raise CompileError(
            Diagnostic(f"padding mode '{mode}' is not supported", source=b.origin.source, help=f"use one of {known}")
        )
    return _by_mode(mode)(b, x, pad)
