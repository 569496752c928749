"""Of `benchmarks/costs.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["costs_table"]


def costs_table(figures: dict[str, Any]) -> str:
    """The table of `benchmarks/costs.py`."""
    rows = [(_point(row), row) for row in figures["digits_front"]] + [(_layer(row), row) for row in figures["wide"]]
    columns = ("server_s", "client_s", "server_process_s", "client_process_s", "bytes_up", "bytes_down", "peak_mib")
    head = (
        "| measured (over predicted) | server s | client s | server process s | client process s | bytes up | bytes down "
        "| peak MiB |\n|---|---|---|---|---|---|---|---|\n"
    )
    cells = [[name, *(f"{row[key]:,.4g} ({row[f'{key}_ratio']:.2f})" for key in columns)] for name, row in rows]
    last = [f"{figures[f'worst_{what}_ratio']:.2f}" for what in ("seconds", "seconds", "process_seconds", "process_seconds")]
    last += [f"{figures[f'worst_{what}_ratio']:.2f}" for what in ("bytes", "bytes", "memory")]
    return head + "".join(f"| {' | '.join(texts)} |\n" for texts in [*cells, ["the worst, either way", *last]])


def _layer(row: dict[str, Any]) -> str:
    if row["kind"] == "conv":
        return f"conv {row['channels']} to {row['outputs']}, {row['size']}x{row['size']}"
    return f"linear {row['channels']} to {row['outputs']}, {row['size']:,} tokens"


def _point(row: dict[str, Any]) -> str:
    held, clear = f"{row['client_weights_mib']:g} MiB at the client", f"{row['leakage']:.0%} in the clear at most"
    return f"digits, {held}, {clear}, {row['rounds']} rounds"
