"""Which entries of a request are encrypted: by masks of the artifact, or chosen from the latent itself."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from hecompile.sparsity.importance import Cost
from hecompile.sparsity.selection import Masks, select

__all__ = ["DynamicSupport", "StaticSupport", "Support", "filled"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def filled(mask: Mask, distortion: Floats, dimension: int) -> Mask:
    """The mask with as many more entries, the dearest of those in clear, as the last polynomial has room for: they cost nothing."""
    spare = min(-int(mask.sum()) % dimension, int((~mask).sum()))
    order = np.argsort(np.where(mask, -1.0, distortion), axis=None, kind="stable")
    more = mask.copy()
    more.flat[order[mask.size - spare :]] = True
    return more


class Support(ABC):
    """One run's choice of masks."""

    @abstractmethod
    def start_run(self) -> None:
        """Forget the last run."""

    @abstractmethod
    def choose(self, x: Floats, t: float) -> Mask:
        """True where encrypted: (B, C, H, W)."""


class StaticSupport(Support):
    """The artifact's masks: nothing about this input."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def start_run(self) -> None:
        return None

    def choose(self, x: Floats, t: float) -> Mask:
        return np.broadcast_to(self._masks.at(t), x.shape)


class DynamicSupport(Support):
    """The exact selection on every latent. Entries beyond the budget, counted over the run, are encrypted, the dearest first."""

    def __init__(self, cost: Cost, tau: float, most_clear: int, dimension: int | None) -> None:
        self._cost, self._tau, self._most_clear, self._dimension = cost, tau, most_clear, dimension
        self._seen: Mask | None = None

    def start_run(self) -> None:
        self._seen = None

    def choose(self, x: Floats, t: float) -> Mask:
        seen = self._seen if self._seen is not None and self._seen.shape == x.shape else np.zeros(x.shape, np.bool_)
        masks = np.stack([self._of_sample(sample, known) for sample, known in zip(x, seen, strict=True)])
        self._seen = seen | ~masks
        return masks

    def _of_sample(self, x: Floats, seen: Mask) -> Mask:
        distortion = self._cost(x)
        if not distortion.any():
            return np.ones(x.shape, np.bool_)  # a flat sample would be revealed whole
        mask = select(distortion, self._tau)
        if self._dimension is not None:
            mask = filled(mask, distortion, self._dimension)
        new = ~mask & ~seen
        excess = int(new.sum() + seen.sum()) - self._most_clear
        if excess > 0:
            order = np.argsort(np.where(new, distortion, -1.0), axis=None, kind="stable")
            mask = mask.copy()
            mask.flat[order[mask.size - excess :]] = True
        return mask
