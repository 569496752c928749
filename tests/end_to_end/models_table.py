"""The table in docs/models.md, a row for each tiny model. HECOMPILE_UPDATE_GOLDEN=1 writes rows anew as their tests run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.frontend.models import MODELS

__all__ = ["DOCUMENT", "WHY_NOT", "Figures", "check_row", "names_of_rows", "row"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
HEADINGS = "| model | compiles | result | outputs | PSNR | rounds |"
STEP_DB = 5  # of the bound: the figure itself may differ between machines
WHY_NOT: dict[str, str] = {}  # models that do not compile, each with its reason in a sentence


@dataclass(frozen=True)
class Figures:
    """Of one compiled model: its outputs, the PSNR of the worst of them, and the requests of a step."""

    outputs: int
    psnr_db: float
    rounds: int


def row(name: str, figures: Figures | None) -> str:
    """The row of a model; without figures it does not compile."""
    if figures is None:
        return f"| {name} | no: {WHY_NOT[name]} | | | | |"
    bound = int(figures.psnr_db // STEP_DB) * STEP_DB
    return f"| {name} | yes | {MODELS[name].result} | {figures.outputs} | ≥ {bound} dB | {figures.rounds} |"


def check_row(name: str, text: str) -> None:
    """`text` is the model's row in the document."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    if os.environ.get("HECOMPILE_UPDATE_GOLDEN"):
        before = lines[: lines.index(HEADINGS) + 2]
        rows = {_name(line): line for line in lines[len(before) :] if line.startswith("| ")} | {name: text}
        after = [line for line in lines[len(before) :] if not line.startswith("| ")]
        lines = [*before, *(rows[known] for known in MODELS if known in rows), *after]
        DOCUMENT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert text in lines


def names_of_rows() -> list[str]:
    """The models of the document's table, in its order."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [_name(line) for line in lines[lines.index(HEADINGS) + 2 :] if line.startswith("| ")]


def _name(line: str) -> str:
    return line.split("|")[1].strip()
