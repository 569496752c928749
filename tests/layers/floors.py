"""The law of the floors: which room may import which. The table is `floors.toml`, and docs/architecture.md draws it."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.layers.imports import LIBRARY, SCRIPTS, Import

__all__ = ["Floor", "drawing", "floors", "room_of", "unlawful"]

TABLE = Path(__file__).with_name("floors.toml")
NAMES = 26  # columns of the drawing that the floors' names get
WIDTH = 110


@dataclass(frozen=True)
class Floor:
    """Rooms side by side.

    Args:
        beside: pairs of them of which the first may import the second.
        askers: the only rooms above that may import them; all may where there are none.
    """

    name: str
    rooms: tuple[str, ...]
    beside: tuple[tuple[str, str], ...] = ()
    askers: tuple[str, ...] = ()


def floors() -> list[Floor]:
    """The floors from the ground up. A room is a module or a folder of the library; a folder's rooms of their own are left out."""
    rows = tomllib.loads(TABLE.read_text())["floor"]
    return [
        Floor(row["name"], tuple(row["rooms"]), tuple((a, b) for a, b in row.get("beside", ())), tuple(row.get("askers", ())))
        for row in rows
    ]


def room_of(module: str, table: list[Floor]) -> str:
    """The room that a module lies in, the innermost. Raises `KeyError` if it lies in none."""
    if module in (LIBRARY, SCRIPTS):
        return {LIBRARY: "__init__", SCRIPTS: SCRIPTS}[module]
    rooms = sorted((room for floor in table for room in floor.rooms), key=len, reverse=True)
    for room in rooms:
        if fnmatchcase(module, f"{LIBRARY}.{room}") or module.startswith(f"{LIBRARY}.{room}."):
            return room
    raise KeyError(module)


def unlawful(statements: Iterable[Import], table: list[Floor]) -> list[str]:
    """Every import that goes up a floor, to another room of its floor without an allowed pair, or to a floor closed to its room."""
    height = {room: number for number, floor in enumerate(table) for room in floor.rooms} | {SCRIPTS: len(table)}
    allowed = {pair for floor in table for pair in floor.beside}
    broken = set[str]()
    for statement in statements:
        rooms = room_of(statement.module, table), room_of(statement.imported, table)
        heights, askers = (height[rooms[0]], height[rooms[1]]), table[height[rooms[1]]].askers
        lawful = not askers or rooms[0] in askers if heights[0] > heights[1] else rooms in allowed
        if rooms[0] != rooms[1] and not lawful:
            broken.add(f"{statement.module} -> {statement.imported}")
    return sorted(broken)


def drawing(table: list[Floor]) -> str:
    """The floors as text, the highest on top."""
    lines = ["every arrow goes down", ""]
    for number, floor in reversed(list(enumerate(table, 1))):
        rooms = textwrap.wrap("   ".join(floor.rooms), WIDTH - NAMES - 4)
        names = [f"{number:2}  {floor.name}", *[""] * len(rooms)]
        lines += [f"{name:{NAMES}}| {row}" for name, row in zip(names, rooms, strict=False)]
        lines += [f"{'':{NAMES}}|   {first} may ask {second}" for first, second in floor.beside]
        lines += [f"{'':{NAMES}}|   asked by {row}" for row in textwrap.wrap(", ".join(floor.askers), WIDTH - NAMES - 13)]
        lines += ["-" * NAMES + "+" + "-" * (WIDTH - NAMES - 1)]
    return "\n".join(lines[:-1])
