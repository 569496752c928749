"""Which inputs of a region share a ciphertext, and which are there several times."""

from __future__ import annotations

from hecompile.backends.ckks.affine import Affine, Chain, Shape
from hecompile.backends.ckks.layout import Grid, Piece, Upload, power_of_two
from hecompile.backends.ckks.ring import Ring

__all__ = ["plan_uploads", "slots_needed"]


def _spread(shape: Shape, grid: Grid) -> bool:
    """One entry a channel, that layers add to all positions."""
    return shape[1:] == (1, 1) and grid.area > 1


def _blocks(chain: Chain, grid: Grid) -> int:
    """The largest period of what a region computes: inputs begin at multiples of it."""
    results = [each.argument.shape for each in chain.polynomials.values()]
    results += [each.shape for each in (*chain.outputs.values(), *chain.between.values())]
    return max(grid.period(shape[0]) for shape in results)


def slots_needed(chain: Chain, grid: Grid) -> int:
    """Slots that the largest input and the largest result take."""
    block = _blocks(chain, grid)
    return max(power_of_two(Piece("", shape, 0, 1, False).size(block, grid.area)) for shape in chain.inputs.values())


def plan_uploads(chain: Chain, grid: Grid, ring: Ring, affines: dict[str, Affine], levels: dict[str, int]) -> list[Upload]:
    """Inputs by the level at which they are first read, as many as fit to a ciphertext; free slots take copies."""
    block = _blocks(chain, grid)
    first = {name: max(levels[reader] for reader, each in affines.items() if name in each.matrices) for name in chain.inputs}
    groups: list[list[Piece]] = []
    for name in sorted(chain.inputs, key=lambda each: -first[each]):
        piece = Piece(name, chain.inputs[name], 0, 1, _spread(chain.inputs[name], grid))
        size = piece.size(block, grid.area)
        for group in groups:
            if sum(each.size(block, grid.area) for each in group) + size <= ring.slots:
                group.append(piece)
                break
        else:
            groups.append([piece])
    return [_upload(number, group, block, grid, ring, affines, first) for number, group in enumerate(groups)]


def _upload(
    number: int, group: list[Piece], block: int, grid: Grid, ring: Ring, affines: dict[str, Affine], first: dict[str, int]
) -> Upload:
    copies = {piece.input: 1 for piece in group}
    wide = max(group, key=lambda piece: (first[piece.input], _density(piece.input, affines)))
    while _copyable(wide, copies[wide.input] * 2, block, grid, affines):
        trial = copies | {wide.input: copies[wide.input] * 2}
        if sum(piece.size(block, grid.area) * trial[piece.input] for piece in group) > ring.slots:
            break
        copies = trial
    start, pieces = 0, []
    for piece in group:
        placed = Piece(piece.input, piece.shape, start, copies[piece.input], piece.spread)
        pieces.append(placed)
        start += placed.size(block, grid.area)
    level = max(first[piece.input] for piece in group)
    return Upload(f"x{number}", level, ring.scale, block, power_of_two(start), tuple(pieces))


def _density(name: str, affines: dict[str, Affine]) -> int:
    return sum(int((each.matrices[name] != 0).sum()) for each in affines.values() if name in each.matrices)


def _copyable(piece: Piece, copies: int, block: int, grid: Grid, affines: dict[str, Affine]) -> bool:
    """Copies are turned within a block: every reader must have that period, and at least one channel a copy."""
    readers = [each for each in affines.values() if piece.input in each.matrices]
    whole = all(grid.period(each.shape[0]) == block for each in readers)
    return whole and not piece.spread and copies * grid.area <= block and len(readers) == 1
