"""Counts what masks reveal, over all steps of a sampling run together.

The sampler's step x_{k+1} = f x_k + g e_k has public f and g. So a latent entry that is revealed at two consecutive steps gives its
noise prediction e_k exactly, even if e is encrypted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.errors import CompileError

__all__ = ["Leakage", "leakage"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Leakage:
    """What the server has seen of one sample after all steps. Entries count once per sample, values once per step."""

    entries: int  # of a latent
    steps: int
    latent_entries: int  # revealed at some step
    noise_entries: int  # with a known noise prediction at some step
    latent_values: int  # revealed, counted at every step
    noise_values: int  # known, counted at every step

    @property
    def fraction(self) -> float:
        """The share of the latent's entries that were revealed at some step."""
        return self.latent_entries / self.entries


def leakage(encrypted: Sequence[Mask], noise_revealed: bool = False) -> Leakage:
    """Count what the masks of all steps reveal together. A mask (C, H, W) is True where an entry is encrypted.

    Args:
        noise_revealed: whether the same entries of the noise prediction are revealed too, as under `he-diffusion`.

    Raises:
        CompileError: if there are no masks, or they differ in shape.
    """
    if not encrypted or len({mask.shape for mask in encrypted}) != 1:
        raise CompileError("leakage is counted over the masks of at least one step, all of one shape")
    clear = ~np.stack(list(encrypted))
    noise = clear if noise_revealed else clear[:-1] & clear[1:]
    return Leakage(
        entries=clear[0].size,
        steps=len(clear),
        latent_entries=int(clear.any(axis=0).sum()),
        noise_entries=int(noise.any(axis=0).sum()),
        latent_values=int(clear.sum()),
        noise_values=int(noise.sum()),
    )
