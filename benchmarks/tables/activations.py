"""Of `benchmarks/activations.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["activations_table", "equal_depth_table"]


def _db(value: float | None) -> str:
    """To a tenth; none where the pictures are no numbers."""
    return "none" if value is None else f"{value:.1f}"


def activations_table(figures: dict[str, Any]) -> str:
    """The settings of `benchmarks/activations.py`."""
    head = (
        "| run by | norms | degrees | fit | total depth | PSNR (dB) | in torch (dB) | promised (dB) | recognised | out of range |"
    )
    rows = [
        f"| {row['backend']} | {row['norms']} | {_degrees(row)} | {row['fit'] or ''} | {row['depth']} | {_db(row['psnr_db'])} "
        f"| {_db(row['float_psnr_db'])} | {_db(row['promised_db'])} | {row['recognised']:.1%} | {row['out_of_range']} |\n"
        for row in figures["settings"]
    ]
    machine = figures["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}"
    table = f"{head}\n{'|---' * 10}|\n{''.join(rows)}"
    return f"{table}\n{figures['samples']} samples, {figures['steps']} steps; {where}\n"


def _degrees(row: dict[str, Any]) -> str:
    """How a setting chose them."""
    if not row["degrees"]:
        return "exact"
    if row["degree"] is not None:
        return f"{row['degree']}{', clamped' if row['clamp'] else ''}"
    least, most = min(row["degrees"]), max(row["degrees"])
    goal = f"budget {row['budget_db']:.0f} dB" if row["budget_db"] else "best of the depth"
    return f"{least} to {most}, {goal}"


def equal_depth_table(figures: dict[str, Any]) -> str:
    """Degrees by the error budget against one degree everywhere."""
    rows = [f"| {row['norms']} | {row['depth']} | {row['degree']} | {row['gain_db']:+.1f} |\n" for row in figures["equal_depth"]]
    return "| norms | total depth | one degree | gain of the error budget (dB) |\n|---|---|---|---|\n" + "".join(rows)
