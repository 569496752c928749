"""What the library's structure is, in figures of one tree that can be compared with those of another."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.layers import walks
from tests.layers.imports import LIBRARY, Import, circles, imports, modules

__all__ = ["climbing", "figures", "mutual", "static_figures"]


def folder_of(module: str) -> str:
    """A folder directly below the library, or a module that lies there."""
    return module.split(".")[1] if "." in module else module


def between_folders(statements: Iterable[Import]) -> Counter[tuple[str, str]]:
    """For each pair of folders, the number of imports from files of the first to files of the second, each pair of files once."""
    arrows = {(statement.module, statement.imported) for statement in statements}
    pairs = Counter((folder_of(start), folder_of(end)) for start, end in arrows)
    return Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]})


def mutual(statements: Iterable[Import]) -> list[tuple[str, str]]:
    """The pairs of folders that import each other."""
    pairs = between_folders(statements)
    return sorted(pair for pair in pairs if pair[0] < pair[1] and pair[::-1] in pairs)


def climbing(statements: Iterable[Import]) -> int:
    """The least number of imports between folders that go against an order of the folders, over all orders.

    The orders of each circle of folders are compared by dynamic programming over the set of its lowest folders
    (Held and Karp 1962).
    """
    arrows = between_folders(statements)
    return sum(_fewest(sorted(circle), arrows) for circle in circles(set(arrows)))


def _fewest(names: list[str], arrows: Counter[tuple[str, str]]) -> int:
    @cache
    def best(lower: int) -> int:
        """The fewest climbing arrows among the folders of this set of bits, and from them to the rest."""
        if not lower:
            return 0
        inside = [place for place in range(len(names)) if lower >> place & 1]
        outside = [place for place in range(len(names)) if not lower >> place & 1]
        return min(best(lower & ~(1 << top)) + sum(arrows[names[top], names[place]] for place in outside) for top in inside)

    return best((1 << len(names)) - 1)


def static_figures(root: Path) -> dict[str, int]:
    """What the sources alone tell."""
    statements, known = imports(root), modules(root)
    loops = circles({(statement.module, statement.imported) for statement in statements})
    attributes, required, optional = _backend(root)
    return {
        "modules": len(known),
        "lines": sum(len(path.read_text().splitlines()) for path in known.values()),
        "arrows": len({(statement.module, statement.imported) for statement in statements}),
        "files in circles": sum(map(len, loops)),
        "files of the largest circle": max(map(len, loops), default=0),
        "pairs of folders that import each other": len(mutual(statements)),
        "arrows between folders that climb": climbing(statements),
        "attributes of `Backend` beside its name": attributes,
        "methods that a backend must have": required,
        "methods that it may have": optional,
    }


def _backend(root: Path) -> tuple[int, int, int]:
    """How many attributes, properties among them, abstract and other methods the class of backends has, its name left out."""
    for path in (root / LIBRARY / "backends").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name == "Backend":
                fields = [
                    statement
                    for statement in node.body
                    if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) != "name"
                ]
                marks = [_marks(statement) for statement in node.body if isinstance(statement, ast.FunctionDef)]
                methods = [decorators for decorators in marks if "property" not in decorators]
                required = sum("abstractmethod" in decorators for decorators in methods)
                return len(fields) + len(marks) - len(methods), required, len(methods) - required
    raise LookupError("there is no class Backend")


def _marks(method: ast.FunctionDef) -> set[str]:
    return {ast.unparse(mark) for mark in method.decorator_list}


def figures(root: Path) -> dict[str, int]:
    """All of it: what running the library below `root` tells too, in processes of its own."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(walks.__file__)), str(root)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root, env=environment).stdout
    run = json.loads(answer.splitlines()[-1])
    known, server = modules(root), run.pop("server")
    lines = sum(len(known[name].read_text().splitlines()) for name in server)
    return {**static_figures(root), **run, "modules of the server": len(server), "lines of them": lines}
