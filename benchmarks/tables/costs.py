"""Of `benchmarks/costs.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["costs_table"]


def costs_table(found: dict[str, Any]) -> str:
    """The table of `benchmarks/costs.py`."""
    wide = found["wide_conv"]
    rows = [(_point(row), row) for row in found["digits_front"]]
    rows.append((f"conv of {wide['channels']} channels, {wide['size']}x{wide['size']}", wide))
    columns = ("server_s", "client_s", "bytes_up", "bytes_down", "peak_mib")
    head = "| measured (over predicted) | server s | client s | bytes up | bytes down | peak MiB |\n|---|---|---|---|---|---|\n"
    cells = [[name, *(f"{row[key]:,.4g} ({row[f'{key}_ratio']:.2f})" for key in columns)] for name, row in rows]
    return head + "".join(f"| {' | '.join(each)} |\n" for each in cells)


def _point(row: dict[str, Any]) -> str:
    held, clear = f"{row['client_weights_mib']:g} MiB at the client", f"{row['leakage']:.0%} in clear at most"
    return f"digits, {held}, {clear}, {row['rounds']} rounds"
