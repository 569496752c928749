"""Plans which inputs of a region share a ciphertext, and which of them it holds in several copies."""

from __future__ import annotations

from hecompile.backends.ckks.layout import Grid, Piece, Upload, power_of_two
from hecompile.backends.ckks.linear_maps import AffineMap, RegionMaps, Shape
from hecompile.backends.ckks.ring import CkksRing

__all__ = ["plan_uploads", "slots_needed"]


def _spread(shape: Shape, grid: Grid) -> bool:
    """True for an input with one entry a channel, which layers add to all positions of that channel."""
    return shape[1:] == (1, 1) and grid.area > 1


def _blocks(maps: RegionMaps, grid: Grid) -> int:
    """The largest period of all values that a region computes. Inputs begin at multiples of it."""
    results = [polynomial.argument.shape for polynomial in maps.polynomials.values()]
    results += [affine.shape for affine in (*maps.outputs.values(), *maps.between.values())]
    return max(grid.period(shape[0]) for shape in results)


def slots_needed(maps: RegionMaps, grid: Grid) -> int:
    """How many slots a ciphertext needs to hold the region's largest input and its largest result."""
    block = _blocks(maps, grid)
    return max(power_of_two(Piece("", shape, 0, 1, False).size(block, grid.area)) for shape in maps.inputs.values())


def plan_uploads(
    maps: RegionMaps, grid: Grid, ring: CkksRing, affines: dict[str, AffineMap], levels: dict[str, int]
) -> list[Upload]:
    """Plan a region's uploads: inputs in the order in which they are read, as many as fit in each. Free slots are filled by copies.

    Args:
        affines: every map of the region, by the name of what it gives.
        levels: the level at which each of them is computed, by the same name.
    """
    block = _blocks(maps, grid)
    first = {name: max(levels[reader] for reader, affine in affines.items() if name in affine.matrices) for name in maps.inputs}
    groups: list[list[Piece]] = []
    for name in sorted(maps.inputs, key=lambda name: -first[name]):
        piece = Piece(name, maps.inputs[name], 0, 1, _spread(maps.inputs[name], grid))
        size = piece.size(block, grid.area)
        for group in groups:
            if sum(member.size(block, grid.area) for member in group) + size <= ring.slots:
                group.append(piece)
                break
        else:
            groups.append([piece])
    return [_upload(number, group, block, grid, ring, affines, first) for number, group in enumerate(groups)]


def _upload(
    number: int, group: list[Piece], block: int, grid: Grid, ring: CkksRing, affines: dict[str, AffineMap], first: dict[str, int]
) -> Upload:
    """The upload of a group of inputs. The input whose readers have the most weights gets as many copies as fit."""
    copies = {piece.input: 1 for piece in group}
    wide = max(group, key=lambda piece: (first[piece.input], _density(piece.input, affines)))
    while _copyable(wide, copies[wide.input] * 2, block, grid, affines):
        doubled = copies | {wide.input: copies[wide.input] * 2}
        if sum(piece.size(block, grid.area) * doubled[piece.input] for piece in group) > ring.slots:
            break
        copies = doubled
    start, pieces = 0, []
    for piece in group:
        placed = Piece(piece.input, piece.shape, start, copies[piece.input], piece.spread)
        pieces.append(placed)
        start += placed.size(block, grid.area)
    level = max(first[piece.input] for piece in group)
    return Upload(f"x{number}", level, ring.scale, block, power_of_two(start), tuple(pieces))


def _density(name: str, affines: dict[str, AffineMap]) -> int:
    """How many non-zero entries the matrices have that read an input."""
    return sum(int((affine.matrices[name] != 0).sum()) for affine in affines.values() if name in affine.matrices)


def _copyable(piece: Piece, copies: int, block: int, grid: Grid, affines: dict[str, AffineMap]) -> bool:
    """True if an input can lie in an upload this many times.

    Copies are rotated within a block, so the period of the only map that reads the input must be one block, of at least one channel
    for each copy.
    """
    readers = [affine for affine in affines.values() if piece.input in affine.matrices]
    whole = all(grid.period(affine.shape[0]) == block for affine in readers)
    return whole and not piece.spread and copies * grid.area <= block and len(readers) == 1
