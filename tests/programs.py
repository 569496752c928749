"""What a compilation that went all the way gives, by its type."""

from __future__ import annotations

from hecompile.compiler import Compiled
from hecompile.ir.regions import CallRegion, Program

__all__ = ["call_regions", "program_of"]


def program_of(compiled: Compiled) -> Program:
    """The program of a compilation that went beyond `split`, before which it is a graph."""
    assert isinstance(compiled.program, Program)
    return compiled.program


def call_regions(compiled: Compiled) -> dict[str, CallRegion]:
    """The regions of a compilation by name, all of which are lists of layers."""
    regions = program_of(compiled).calls
    assert all(isinstance(region, CallRegion) for region in regions.values())
    return {name: region for name, region in regions.items() if isinstance(region, CallRegion)}
