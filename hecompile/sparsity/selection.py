"""Which entries stay in clear: as many as a budget of distortion allows, exactly.

Every entry counts one, so the optimum is a prefix: sort the distortions, add them up, keep the longest prefix within tau of their
total. (The paper's search by filters overshoots its budget by an entry.) Masks are True where an entry is encrypted.
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
    """Rows and columns of a tile as they are written: 4x4. Raises `CompileError` for what is not."""
    sizes = text.split("x")
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise CompileError(Diagnostic(f"a tile of {text}", help="rows and columns as in --tile 4x4"))
    return int(sizes[0]), int(sizes[1])


@dataclass(frozen=True)
class Grouping:
    """Entries that are encrypted together: single ones, tiles of h x w of a channel, or whole channels.

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
        """Height and width of a group. Groups are equal: then most groups are most entries."""
        _, height, width = shape
        block = {"element": (1, 1), "tile": self.tile, "channel": (height, width)}[self.granularity]
        if height % block[0] or width % block[1]:
            raise CompileError(f"tiles of {block[0]} x {block[1]} do not divide a picture of {height} x {width}")
        return block

    def sums(self, distortion: Floats) -> Floats:
        """D summed over every group: (C, H, W) -> (C, rows, columns)."""
        channels, height, width = distortion.shape
        h, w = self._block(distortion.shape)
        result: Floats = distortion.reshape(channels, height // h, h, width // w, w).sum(axis=(2, 4))
        return result

    def spread(self, groups: Mask, shape: tuple[int, ...]) -> Mask:
        """One value per group -> one per entry: (C, rows, columns) -> (C, H, W)."""
        h, w = self._block(shape)
        return groups.repeat(h, axis=1).repeat(w, axis=2)


def _prefix(ordered: Floats, tau: float) -> int:
    """Length of the longest prefix that adds up to at most tau of all."""
    sums = np.cumsum(ordered)
    return int(np.searchsorted(sums, tau * sums[-1], side="right")) if sums.size else 0


def _judge(distortion: Floats, tau: float) -> None:
    if not 0 <= tau < 1:
        raise CompileError(f"tau is {tau}: the share of distortion left in clear is at least 0 and below 1")
    if distortion.ndim != 3 or not np.isfinite(distortion).all() or (distortion < 0).any():
        raise CompileError("distortions are finite, not negative, and of one sample (C, H, W)")


def select(distortion: Floats, tau: float, grouping: Grouping | None = None) -> Mask:
    """The mask of fewest encrypted groups whose clear rest has at most tau of the distortion; ties fall to the first: (C, H, W).

    Raises:
        CompileError: if tau is not in [0, 1), or the distortions are negative or not finite.
    """
    _judge(distortion, tau)
    grouping = grouping or Grouping()
    sums = grouping.sums(distortion)
    ordered = np.sort(sums, axis=None)
    left = _prefix(ordered, tau)
    if not left:
        return np.ones(distortion.shape, np.bool_)
    dearest = ordered[left - 1]  # sorting values and comparing is ten times faster than sorting places
    encrypted = sums > dearest
    ties = np.flatnonzero(sums == dearest)
    encrypted.flat[ties[left - int((sums < dearest).sum()) :]] = True
    return grouping.spread(encrypted, distortion.shape)


def mean_share(distortions: Sequence[Floats]) -> Floats:
    """The mean of D / D_tot: every sample weighs the same. Samples without distortion say nothing."""
    shares = [distortion / total for distortion in distortions if (total := distortion.sum()) > 0]
    if not shares:
        raise CompileError("no calibration sample has any distortion: there is nothing to choose by")
    mean: Floats = np.mean(shares, axis=0)
    return mean


def static_mask(distortions: Sequence[Floats], tau: float, grouping: Grouping | None = None) -> Mask:
    """One mask for all inputs and steps, within tau of the mean normalised distortion of calibration samples."""
    return select(mean_share(distortions), tau, grouping)


def nested_masks(distortions: Mapping[int, Sequence[Floats]], tau: float, grouping: Grouping | None = None) -> dict[int, Mask]:
    """One mask per timestep bin, each within tau of its bin's mean, all prefixes of one order: the clear parts are nested.

    So the union over all steps, which is what leaks, is the largest of them and not their sum.
    """
    grouping = grouping or Grouping()
    means = {place: mean_share(samples) for place, samples in distortions.items()}
    overall: Floats = np.mean(list(means.values()), axis=0)
    _judge(overall, tau)
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
    """Static masks by timestep bin, or one for all: (1, C, H, W) or (bins, C, H, W)."""

    values: Mask

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.dtype != np.bool_ or not self.values.size:
            raise CompileError(f"masks are bool (bins, C, H, W), not {self.values.dtype} {self.values.shape}")

    def at(self, t: float) -> Mask:
        """The mask of a timestep: (C, H, W)."""
        bins = len(self.values)
        mask: Mask = self.values[0 if bins == 1 else timestep_bin(t, bins)]
        return mask
