"""What masks give away, counted over the union of all steps.

The sampler's step x_{k+1} = f x_k + g e_k has public f and g, so an entry in clear at two consecutive steps gives its noise
prediction e_k exactly, whether or not e was revealed itself.
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
    """Entries of one sample that the server has seen after all steps."""

    entries: int  # of a latent
    steps: int
    latent_entries: int  # in clear at some step
    noise_entries: int  # whose noise prediction is known for some step
    latent_values: int  # entries times steps
    noise_values: int

    @property
    def fraction(self) -> float:
        """Share of the entries that were in clear at some step."""
        return self.latent_entries / self.entries


def leakage(encrypted: Sequence[Mask], noise_revealed: bool = False) -> Leakage:
    """Count what masks (C, H, W), True where encrypted, one per step, show together.

    Args:
        noise_revealed: whether the noise prediction itself is revealed where the latent is, as under `he-diffusion`.

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
