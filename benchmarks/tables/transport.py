"""The tables of `benchmarks/transport.py` and `benchmarks/faults.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["faults_table", "transport_table"]

SIZES = ("100kB", "1MB", "30MB")


def transport_table(figures: dict[str, Any]) -> str:
    """The new transport beside httpx, as it was used, in one run."""
    head = "| ours / httpx | MB/s up | MB/s down | client CPU ns per byte up | down |\n|---|---|---|---|---|\n"
    rows = []
    for size in SIZES:
        cells = [
            " / ".join(f"{figures[f'{which}_{way}_{size}_{key}']:{form}}" for which in ("new", "old"))
            for key, form in (("mb_per_s", ",.0f"), ("cpu_ns_per_byte", ".2f"))
            for way in ("up", "down")
        ]
        rows.append(f"| {size} | {' | '.join(cells)} |\n")
    return head + "".join(rows)


def faults_table(figures: dict[str, Any]) -> str:
    """A run whose server is killed again and again."""
    rows = [
        ("steps and requests of the run", f"{figures['steps']} and {figures['requests']}"),
        ("server killed and started again within it", f"{figures['restarts']} times"),
        ("picture", "equal to the undisturbed one bit for bit" if figures["equal"] else "NOT equal to the undisturbed one"),
        ("seconds, and undisturbed", f"{figures['seconds']:.1f}, {figures['undisturbed_s']:.1f}"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
