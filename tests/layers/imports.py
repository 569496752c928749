"""Every import of a module of ours by a module of ours, wherever it stands and whatever form it has.

An import inside a function or under `TYPE_CHECKING` counts as one at the top of a file, and so does a text that is the name of a
module: tables of names that are imported later, commands that start a process. That a module's package runs first is not counted.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["SCRIPTS", "Import", "circles", "imports", "modules"]

Kind = Literal["module", "function", "type-only", "relative", "text"]
LIBRARY = "hecompile"
SCRIPTS = "pyproject"  # stands for the commands of pyproject.toml


@dataclass(frozen=True, order=True)
class Import:
    """One module asks for another: the first place where it does so in this form."""

    module: str
    imported: str
    kind: Kind
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Files of the library below `root` by the names of their modules, folders that are linked into it included. A compiled
    module's is the file of its types."""
    files = dict[str, Path]()
    for folder, _, names in os.walk(root / LIBRARY, followlinks=True):
        for name in names:
            if name.endswith((".py", ".pyi")):
                path = Path(folder, name)
                parts = path.relative_to(root).with_suffix("").parts
                files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(files.items()))


@cache
def imports(root: Path) -> tuple[Import, ...]:
    """Every import between the modules below `root`, and the commands that its pyproject.toml declares. The result is cached."""
    known = modules(root)
    statements = dict[tuple[str, str, Kind], Import]()
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, kind in _places(ast.parse(path.read_text()), "module"):
            for name, form in _names(node, package, known):
                imported = _longest(name, known)
                if imported not in ("", module) and (imported != LIBRARY or form != "text"):  # `hecompile.dot` is an operator
                    own = Import(module, imported, form or kind, getattr(node, "lineno", 0))
                    statements.setdefault((module, imported, own.kind), own)
    return tuple(sorted([*statements.values(), *_commands(root, known)]))


def _commands(root: Path, known: dict[str, Path]) -> Iterator[Import]:
    project = root / "pyproject.toml"
    if project.is_file():
        for target in tomllib.loads(project.read_text()).get("project", {}).get("scripts", {}).values():
            if imported := _longest(target.partition(":")[0], known):
                yield Import(SCRIPTS, imported, "text", 0)


def _places(node: ast.AST, kind: Kind) -> Iterator[tuple[ast.AST, Kind]]:
    """Every node below this one, and what an import there is: within a function, for types only, or at the module's level."""
    for child in ast.iter_child_nodes(node):
        inner = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "type-only"
        yield child, inner
        yield from _places(child, inner)


def _names(node: ast.AST, package: str, known: dict[str, Path]) -> Iterator[tuple[str, Kind | None]]:
    """Full names that a node imports; None for a form that its place decides."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base, form = node.module or "", None
        if node.level:
            above = package.split(".")
            base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in known else base, "relative" if node.level else form
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(rf"{LIBRARY}(\.\w+)+(:\w+)?", node.value):
        yield node.value.partition(":")[0], "text"


def _longest(name: str, known: dict[str, Path]) -> str:
    """The module that a dotted name lies in; empty if it is none of ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def circles(arrows: set[tuple[str, str]]) -> list[set[str]]:
    """The sets of names, two or more, that reach each other along the arrows."""
    after: dict[str, set[str]] = {name: set() for arrow in arrows for name in arrow}
    for start, end in arrows:
        after[start].add(end)
    reached = {name: _reached(name, after) for name in after}
    together = {frozenset({name, *(other for other in reached[name] if name in reached[other])}) for name in after}
    return sorted((set(names) for names in together if len(names) > 1), key=sorted)


def _reached(start: str, after: dict[str, set[str]]) -> set[str]:
    reached, waiting = set[str](), [start]
    while waiting:
        new = after[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached
