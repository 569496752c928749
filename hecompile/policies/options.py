"""The options of policies that reveal a part of what is secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.panels import Idle, Panel, option
from hecompile.sparsity.distortion_names import OF_SAMPLE

if TYPE_CHECKING:
    from hecompile.sparsity.selection import Grouping

__all__ = ["MinDistortionOptions"]

REVEAL_BITS = (2, 11)  # the least and most bits of a revealed entry; an encrypted one has at least one more


@dataclass(frozen=True)
class MinDistortionOptions(Panel):
    """How much of every value may be revealed, and in which pieces."""

    budget: float | None = option(
        None, help="largest share of a value's distortion that its revealed part may have", at_least=0, below=1
    )
    importance: str = option("hill", help="the measure of how important an entry is", known=lambda: OF_SAMPLE)
    granularity: str = option(
        "channel", help="reveal whole channels, or tiles: rectangles of the picture over all channels", choices=("channel", "tile")
    )
    tile: str = option("4x4", help="granularity tile: rows x columns of a tile, clamped to the picture")
    reveal_bits: int = option(8, help="bits of a revealed entry", at_least=REVEAL_BITS[0], at_most=REVEAL_BITS[1])
    declare: tuple[str, ...] = option(
        (), help="allow revealing these values although they determine the latent, noise or prompt; may be repeated"
    )

    def check(self) -> None:
        from hecompile.sparsity.importance import distortion_function

        distortion_function(self.importance)
        self.grouping()

    def grouping(self) -> Grouping:
        """Return which entries are revealed together. Raises `CompileError` for a tile without entries."""
        from hecompile.sparsity.selection import Grouping, tile_size

        return Grouping(self.granularity, tile_size(self.tile))  # type: ignore[arg-type]

    def idle(self) -> Sequence[Idle]:
        if not self.budget:
            names = ("importance", "granularity", "tile", "reveal_bits", "declare")
            return (Idle(names, "nothing is revealed without a budget", "a --budget above 0"),)
        if self.granularity == "channel":
            return (Idle(("tile",), "whole channels are revealed", "--granularity tile"),)
        return ()
