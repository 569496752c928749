"""Of `benchmarks/min_distortion.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["min_distortion_table", "predicted_table"]


def min_distortion_table(figures: dict[str, Any]) -> str:
    """Digits and the wide convolution, strict against a quarter encrypted."""
    lines = [
        "| model | encrypted | budget | strict | min-distortion | ratio | the same of a run's later calls | PSNR against strict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in figures["models"].items():
        lines.append(
            f"| {name} | {row['encrypted_share']:.1%} | {row['budget']:.2f} | {1e3 * row['strict_s']:,.0f} ms | "
            f"{1e3 * row['sparse_s']:,.0f} ms | {row['ratio']:.2f} | {1e3 * row['later_strict_s']:,.0f} and "
            f"{1e3 * row['later_sparse_s']:,.0f} ms, {row['later_ratio']:.2f} | {row['psnr_db_against_strict']:.1f} dB |"
        )
    machine = figures["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}"
    lines += ["", f"Medians of {row['runs']} runs, {figures['security_bits']} bits of security. {where}."]
    return "\n".join(lines) + "\n"


def predicted_table(figures: dict[str, Any]) -> str:
    """Channels and tiles by the cost model."""
    fields = ("server_s", "client_s", "up_bytes", "down_bytes")
    lines = ["| layer | part | server s | client s | bytes up | bytes down |", "|---|---|---|---|---|---|"]
    for name, rows in figures["predicted"].items():
        lines += [f"| {name} | {row['part']} | {' | '.join(f'{row[field]:.2f}' for field in fields)} |" for row in rows]
    return "\n".join(lines) + "\n"
