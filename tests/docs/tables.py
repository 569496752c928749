"""The tables of docs/passes.md, from the docstrings of the passes: `python -m tests.docs.tables` writes them anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hecompile.backends.registry import model_backends
from hecompile.compiler import pipeline
from hecompile.ir.passes import Pass, RegionPass
from hecompile.options import CompileOptions
from tests.docs.blocks import ROOT

__all__ = ["TABLES", "fill"]

BLOCK = re.compile(r"(<!-- made: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)


def passes_of(backend: str) -> list[Pass[Any, Any]]:
    """The passes of a compilation under this backend, in their order."""
    return pipeline(CompileOptions(backend=backend), Path("model.he"))


def _file(step: Pass[Any, Any]) -> str:
    """Where a pass is written, from the repository's root."""
    path = Path(inspect.getfile(type(step))).resolve().relative_to(ROOT)
    return str(path)


def _row(number: int, step: Pass[Any, Any]) -> str:
    whose = f"`{step.backend}`" if isinstance(step, RegionPass) else "every backend"
    return f"| {number} | `{step.name}` | {step.help} | {whose} | [`{_file(step)}`](../{_file(step)}) |\n"


def passes_table() -> str:
    """A row for each pass of the default backend, in the pipeline's order."""
    rows = [_row(number, step) for number, step in enumerate(passes_of("bfv"))]
    return "| | pass | what it does | whose regions | file |\n|---:|---|---|---|---|\n" + "".join(rows)


def lowerings_table() -> str:
    """A row for each pass that another backend's pipeline has and the default one has not."""
    known, rows = {type(step) for step in passes_of("bfv")}, list[str]()
    for backend in model_backends():
        for step in passes_of(backend):
            if type(step) not in known:
                known.add(type(step))
                rows.append(f"| `--backend {backend}` | `{step.name}` | {step.help} | [`{_file(step)}`](../{_file(step)}) |\n")
    return "| with | pass | what it does | file |\n|---|---|---|---|\n" + "".join(rows)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "passes": ("docs/passes.md", passes_table),
    "lowerings": ("docs/passes.md", lowerings_table),
}


def fill(text: str) -> str:
    """The document with every such table written anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{TABLES[match[2]][1]()}{match[3]}", text)


if __name__ == "__main__":
    for name in {document for document, _ in TABLES.values()}:
        (ROOT / name).write_text(fill((ROOT / name).read_text("utf-8")), "utf-8")
