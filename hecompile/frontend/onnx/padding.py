"""Importer of ONNX's Pad: constant borders by the op table's padding, other borders by selecting entries of the value."""

from __future__ import annotations

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Value, imports
from hecompile.ir.graph import Batch

__all__: list[str] = []  # importers register themselves

_MOST = 1 << 20  # most entries of a border, so that a small file cannot fill the memory
_PICTURES = {"reflect": "aten.reflection_pad2d.default", "edge": "aten.replication_pad2d.default"}


@imports("Pad")
def _pad(call: Call) -> Value:
    x, mode = call.input(0), call.text("mode", "constant")
    shape = call.shape(x)
    rank, amounts = len(shape), call.ints(call.input(1), "the padding")
    axes = list(range(rank)) if call.axes(3) is None else [call.axis(x, axis) for axis in call.axes(3) or []]
    if len(amounts) != 2 * len(axes):
        raise CompileError(f"Pad needs two amounts for each of {len(axes)} axes, not {len(amounts)}")
    if any(abs(amount) > _MOST for amount in amounts):
        raise CompileError(f"Pad by {max(amounts, key=abs)} entries is not supported: at most {_MOST} are")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = amounts[place], amounts[place + len(axes)]
    used = [axis for axis in range(rank) if before[axis] or after[axis]]
    if any(isinstance(shape[axis], Batch) for axis in used):
        raise CompileError(Diagnostic("cannot pad the batch dimension", help="pad the other dimensions only"))
    if not used:
        return x
    if mode == "constant":
        return _constant(call, x, before[used[0] :], after[used[0] :])
    if mode not in ("reflect", "edge", "wrap"):
        raise CompileError(Diagnostic(f"Pad in mode '{mode}' is not supported", help="use constant, reflect, edge or wrap"))
    sizes = {axis: call.size(x, axis) for axis in used}
    inside = all(0 <= amount < size for axis, size in sizes.items() for amount in (before[axis], after[axis]))
    if mode in _PICTURES and rank == 4 and used[0] >= 2 and inside:
        return call.emit(_PICTURES[mode], x, [before[3], after[3], before[2], after[2]])
    for axis, size in sizes.items():
        x = call.entries(x, axis, _around(size, before[axis], after[axis], mode))
    return x


def _around(size: int, before: int, after: int, mode: str) -> list[int]:
    """Return the source index of every entry along a padded axis; negative amounts are cut off first."""
    kept = range(max(0, -before), size - max(0, -after))
    if not kept:
        raise CompileError(f"cannot pad {size} entries by {before} and {after}")
    return [kept[_source(place, len(kept), mode)] for place in range(-max(0, before), len(kept) + max(0, after))]


def _constant(call: Call, x: Value, before: list[int], after: list[int]) -> Value:
    """Pad with a number; negative amounts are cut off."""
    given = call.maybe(2)
    value = 0.0 if given is None else call.number(given)
    if given is not None and value is None:
        bools = call.known(given, "the padding's value")
        value = int(bools.first.any())
    pad = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return call.emit("aten.constant_pad_nd.default", x, pad, value)


def _source(place: int, size: int, mode: str) -> int:
    """Return the source index of an entry outside the value."""
    if mode == "edge":
        return min(max(place, 0), size - 1)
    if mode == "wrap" or size == 1:
        return place % size
    place %= 2 * (size - 1)  # reflects back and forth, with each end once
    return min(place, 2 * (size - 1) - place)
