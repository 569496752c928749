"""The modules of a network as a tree, with what each computes and at whose side."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from hecompile.ir.modules import ModuleWork
from hecompile.report.words import shape_text

__all__ = ["Branch", "module_tree"]

BESIDE = "own operations"  # of a module that holds other modules too


@dataclass
class Branch:
    """A module: what it and all modules in it compute, by side."""

    name: str
    path: str
    macs: dict[str, int] = field(default_factory=lambda: {"client": 0, "server": 0})
    entries: dict[str, int] = field(default_factory=lambda: {"client": 0, "server": 0})
    operations: tuple[str, ...] = ()
    shape: str = ""
    children: dict[str, Branch] = field(default_factory=dict)

    @property
    def side(self) -> str:
        """Who computes it: `client`, `server`, or `both`."""
        sides = [side for side, entries in self.entries.items() if entries]
        return sides[0] if len(sides) == 1 else "both"

    def count(self, work: ModuleWork, side: str) -> None:
        """Add the multiply-adds and entries of a module in this branch to those of `side`."""
        self.macs[side] += work.macs
        self.entries[side] += work.entries

    def walk(self, parent: str = "") -> Iterable[tuple[str, str, Branch]]:
        """Yield this branch and all branches below it, as (identifier, identifier of the parent, branch)."""
        own = f"{parent}\n{self.name}" if parent else "."  # names hold no line ends
        yield own, parent, self
        for child in self.children.values():
            yield from child.walk(own)


def _names(path: str) -> list[str]:
    """The names along a path; a place in a list belongs to the list: `down_blocks.0`, `resnets.1`, `conv1`."""
    return re.findall(r"[^.]+(?:\.\d+)*", path)


def module_tree(name: str, modules: Iterable[ModuleWork], server: Collection[str]) -> Branch:
    """The tree of all modules, in the order of the plan. `server`: names of the regions that run there."""
    root, works = Branch(name, ""), list(modules)
    holders = {".".join(names[:depth]) for names in (_names(work.path) for work in works) for depth in range(len(names))}
    sides: dict[str, set[str]] = {}
    for work in works:
        sides.setdefault(work.path, set()).add("server" if work.region in server else "client")
    for work in works:
        side, branch = "server" if work.region in server else "client", root
        branch.count(work, side)
        parts = _names(work.path)
        if not work.path or work.path in holders or len(sides[work.path]) > 1:
            parts = [*parts, f"{BESIDE}, {side}"]
        for depth, part in enumerate(parts, start=1):
            branch = branch.children.setdefault(part, Branch(part, ".".join(parts[:depth])))
            branch.count(work, side)
        branch.operations = tuple(dict.fromkeys((*branch.operations, *work.operations)))
        branch.shape = shape_text(work.shape)
    return root
