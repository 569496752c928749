"""The modules that a process of `hecompile serve` has loaded once it has answered."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hecompile

__all__ = ["ROOT", "names_of", "own", "server_modules", "text_of"]

ROOT = Path(hecompile.__file__).parent
SERVE = "import json, sys\nfrom hecompile.cli import main\ntry:\n    main()\nfinally:\n    print(json.dumps(sorted(sys.modules)))"


def server_modules(folder: Path, ask: Callable[[str], object]) -> frozenset[str]:
    """Serve an artifact's server half; `ask` has its URL and sends requests. What the process has loaded when it is stopped."""
    command = [sys.executable, "-c", SERVE, "serve", str(folder / "server"), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ask(json.loads(process.stdout.readline())["url"])
    finally:
        process.terminate()
        rest = process.stdout.read()
        process.wait()
    return frozenset(json.loads(rest))


def own(modules: frozenset[str]) -> frozenset[str]:
    """Those of hecompile, by what follows the library's own name."""
    return frozenset(name.removeprefix("hecompile.") for name in modules if name.startswith("hecompile."))


def text_of(module: str) -> str:
    """The source of a module of hecompile, named as `own` does."""
    path = ROOT / (module.replace(".", "/") + ".py")
    places = (path, path.with_suffix(".pyi"), path.with_suffix("") / "__init__.py")  # the second: of a compiled module, its types
    return next(place for place in places if place.is_file()).read_text()


def names_of(module: str) -> set[str]:
    """Every name that a module of hecompile defines, imports or uses, what it imports for its types alone included."""
    names = set[str]()
    for node in ast.walk(ast.parse(text_of(module))):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.name for alias in node.names)
    return names
