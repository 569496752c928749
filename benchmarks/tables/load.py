"""The table of `benchmarks/load.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["load_table"]


def load_table(figures: dict[str, Any]) -> str:
    """A row per load, then the loads with hostile connections beside them and without."""
    head = (
        "| runs at a time | runs | lost | wrong answers | requests/s | p50 ms | p99 ms | server MiB, first and last |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    settings = figures["settings"]
    hostile = f"with {settings['slow_bodies']} slow bodies and {settings['idle_connections']} idle connections"
    names = [str(row["concurrent"]) for row in figures["loads"]]
    names += [f"{row['concurrent']}, {hostile if row['attacked'] else 'without'}" for row in figures["disturbed"]]
    rows = [_row(name, row) for name, row in zip(names, [*figures["loads"], *figures["disturbed"]], strict=True)]
    return f"{head}{''.join(rows)}\nThroughput kept beside the hostile connections: {figures['honest_throughput_kept']:.0%}.\n"


def _row(name: str, row: dict[str, Any]) -> str:
    times = [f"{row[key]:,.{digits}f}" for key, digits in (("requests_per_s", 1), ("p50_ms", 0), ("p99_ms", 0))]
    memory = f"{row['rss_first_mib']:.0f}, {row['rss_last_mib']:.0f}"
    return f"| {' | '.join([name, str(row['runs']), str(row['runs_lost']), str(row['wrong_answers']), *times, memory])} |\n"
