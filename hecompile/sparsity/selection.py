"""Selects which entries are revealed: the largest number whose distortions add up to at most a share tau of the total.

Sorted by distortion, these entries are the longest prefix whose sum is within the budget. (The paper's iterative search exceeds its
budget by an entry.) Masks are True where an entry is encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.timesteps import timestep_bin

__all__ = ["Granularity", "Grouping", "Masks", "mean_share", "nested_masks", "select", "static_mask", "tile_size"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Granularity = Literal["element", "tile", "channel"]


def tile_size(text: str) -> tuple[int, int]:
    """Return rows and columns of a tile from a text such as `4x4`. Raises `CompileError` for any other text."""
    sizes = text.split("x")
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise CompileError(Diagnostic(f"'{text}' is not the size of a tile", help="give rows and columns, as in --tile 4x4"))
    return int(sizes[0]), int(sizes[1])


@dataclass(frozen=True)
class Grouping:
    """Which entries are encrypted or revealed together: single entries, tiles of h x w entries of a channel, or whole channels.

    Raises:
        CompileError: for an unknown granularity or a tile without entries.
    """

    granularity: Granularity = "element"
    tile: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.granularity not in ("element", "tile", "channel"):
            raise CompileError(f"granularity is element, tile or channel, not '{self.granularity}'")
        if min(self.tile) < 1:
            raise CompileError(f"a tile of {self.tile[0]} x {self.tile[1]} has no entries")

    def _block(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the height and width of a group. All groups are equal, so that the most groups are also the most entries."""
        _, height, width = shape
        block = {"element": (1, 1), "tile": self.tile, "channel": (height, width)}[self.granularity]
        if height % block[0] or width % block[1]:
            raise CompileError(f"tiles of {block[0]} x {block[1]} do not divide a picture of {height} x {width}")
        return block

    def sums(self, distortion: Floats) -> Floats:
        """Return the distortion (C, H, W) summed over every group, as (C, rows, columns)."""
        channels, height, width = distortion.shape
        h, w = self._block(distortion.shape)
        result: Floats = distortion.reshape(channels, height // h, h, width // w, w).sum(axis=(2, 4))
        return result

    def spread(self, groups: Mask, shape: tuple[int, ...]) -> Mask:
        """Return a mask of groups (C, rows, columns) as a mask of entries (C, H, W)."""
        h, w = self._block(shape)
        return groups.repeat(h, axis=1).repeat(w, axis=2)


def _prefix(ordered: Floats, tau: float) -> int:
    """Return the length of the longest prefix whose sum is at most tau times the sum of all."""
    sums = np.cumsum(ordered)
    return int(np.searchsorted(sums, tau * sums[-1], side="right")) if sums.size else 0


def _check(distortion: Floats, tau: float) -> None:
    if not 0 <= tau < 1:
        raise CompileError(f"tau is {tau}: the revealed share of distortion must be at least 0 and below 1")
    if distortion.ndim != 3 or not np.isfinite(distortion).all() or (distortion < 0).any():
        raise CompileError("distortions must be finite, not negative, and of one sample (C, H, W)")


def select(distortion: Floats, tau: float, grouping: Grouping | None = None) -> Mask:
    """Return the mask (C, H, W) with the fewest encrypted groups, so that revealed groups have at most tau of the distortion.

    Of groups with equal distortion, the first are revealed.

    Raises:
        CompileError: if tau is not in [0, 1), or the distortions are negative or not finite.
    """
    _check(distortion, tau)
    grouping = grouping or Grouping()
    sums = grouping.sums(distortion)
    ordered = np.sort(sums, axis=None)
    left = _prefix(ordered, tau)
    if not left:
        return np.ones(distortion.shape, np.bool_)
    largest = ordered[left - 1]  # of the revealed sums; sorting values and comparing is ten times as fast as sorting indices
    encrypted = sums > largest
    ties = np.flatnonzero(sums == largest)
    encrypted.flat[ties[left - int((sums < largest).sum()) :]] = True
    return grouping.spread(encrypted, distortion.shape)


def mean_share(distortions: Sequence[Floats]) -> Floats:
    """Return the mean over samples of each entry's share of its sample's distortion. Samples without any distortion are left out.

    Raises:
        CompileError: if no sample has any distortion.
    """
    shares = [distortion / total for distortion in distortions if (total := distortion.sum()) > 0]
    if not shares:
        raise CompileError("no calibration sample has any distortion, so no entry is more important than another")
    mean: Floats = np.mean(shares, axis=0)
    return mean


def static_mask(distortions: Sequence[Floats], tau: float, grouping: Grouping | None = None) -> Mask:
    """Return one mask (C, H, W) for all inputs and steps, selected by the mean shares of calibration samples (see `select`)."""
    return select(mean_share(distortions), tau, grouping)


def nested_masks(distortions: Mapping[int, Sequence[Floats]], tau: float, grouping: Grouping | None = None) -> dict[int, Mask]:
    """Return one mask per timestep bin, each within tau of the mean shares of its bin.

    All bins reveal entries in one order, so that what is revealed over all steps is the largest revealed part of a single bin.
    """
    grouping = grouping or Grouping()
    means = {place: mean_share(samples) for place, samples in distortions.items()}
    overall: Floats = np.mean(list(means.values()), axis=0)
    _check(overall, tau)
    order = np.argsort(grouping.sums(overall), axis=None, kind="stable")
    masks = {}
    for place, mean in means.items():
        sums = grouping.sums(mean)
        encrypted = np.ones(sums.shape, np.bool_)
        encrypted.flat[order[: _prefix(sums.ravel()[order], tau)]] = False
        masks[place] = grouping.spread(encrypted, mean.shape)
    return masks


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks that do not depend on the input: one for all timesteps, (1, C, H, W), or one for each bin, (bins, C, H, W)."""

    values: Mask

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.dtype != np.bool_ or not self.values.size:
            raise CompileError(f"masks are bool (bins, C, H, W), not {self.values.dtype} {self.values.shape}")

    def at(self, t: float) -> Mask:
        """Return the mask (C, H, W) of a timestep."""
        bins = len(self.values)
        mask: Mask = self.values[0 if bins == 1 else timestep_bin(t, bins)]
        return mask
