"""Which entries of a request are encrypted: chosen by the artifact's masks, or from the latent itself."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from hecompile.sparsity.importance import Distortion
from hecompile.sparsity.selection import Masks, select

__all__ = ["DynamicSupport", "StaticSupport", "Support", "filled"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def filled(mask: Mask, distortion: Floats, dimension: int) -> Mask:
    """The mask with more encrypted entries, of largest distortion first, until the last polynomial is full. They add no cost."""
    spare = min(-int(mask.sum()) % dimension, int((~mask).sum()))
    order = np.argsort(np.where(mask, -1.0, distortion), axis=None, kind="stable")
    more = mask.copy()
    more.flat[order[mask.size - spare :]] = True
    return more


class Support(ABC):
    """Chooses the masks of a run."""

    @abstractmethod
    def start_run(self) -> None:
        """Begin a new run: forget the last one."""

    @abstractmethod
    def choose(self, x: Floats, t: float) -> Mask:
        """The mask for latents x (B, C, H, W) at timestep t: (B, C, H, W), true where an entry is encrypted."""


class StaticSupport(Support):
    """The artifact's masks, which do not depend on the input."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def start_run(self) -> None:
        return None

    def choose(self, x: Floats, t: float) -> Mask:
        return np.broadcast_to(self._masks.at(t), x.shape)


class DynamicSupport(Support):
    """Selects entries by the distortion of every latent.

    The budget counts every entry that is revealed at any step of the run. Beyond it, entries of largest distortion are encrypted.
    """

    def __init__(self, cost: Distortion, tau: float, most_clear: int, dimension: int | None) -> None:
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
