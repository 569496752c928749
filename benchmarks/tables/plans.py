"""Of `benchmarks/plans.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["bills_table", "goals_table", "shapes_table"]

COLUMNS = "client s | server s | alone s | client over alone | GB first | GB later | rounds"
WORDS = {
    "latency": "a fast call",
    "client-cpu": "little CPU at the client",
    "server-cpu": "little CPU at the server",
    "bytes": "few bytes",
}


def shapes_table(figures: dict[str, Any]) -> str:
    """Every shape with all layers at the server, and with its best plan."""
    best = f"with {figures['held_mib']:g} MiB at the client: client over alone"
    head = f"| | {COLUMNS} | MiB of keys | {best} | GB first | GB later |\n"
    rows = []
    for shape in figures["shapes"]:
        best = shape["best"]
        cells = [*_cells(shape["all"]), f"{shape['all']['key_bytes'] / 2**20:g}", f"{best['offload_ratio']:.2f}", *_sent(best)]
        rows.append(f"| {shape['model']} | {' | '.join(cells)} |\n")
    return head + "|---" * 12 + "|\n" + "".join(rows)


def goals_table(figures: dict[str, Any]) -> str:
    """The best plans of one shape by goal."""
    rows = [f"| `{goal}`: {WORDS[goal]} | {' | '.join(_cells(plan))} |\n" for goal, plan in figures["goals"].items()]
    return f"| `--goal` | {COLUMNS} |\n" + "|---" * 8 + "|\n" + "".join(rows)


def bills_table(figures: dict[str, Any]) -> str:
    """Who pays what, beside running alone."""
    head = "| | client CPU s | alone, CPU s | client over alone | server CPU s | network GB | network s | start to end s |\n"
    rows = []
    for plan, bills in figures["bills"].items():
        rows.append(f"| **{plan}** | | | | | | | |\n")
        for bill in bills:
            amounts = [bill["client_s"], bill["alone_s"], bill["offload_ratio"], bill["server_s"]]
            amounts += [bill["network_bytes"] / 1e9, bill["network_s"], bill["time_s"]]
            rows.append(f"| {bill['what']} | {' | '.join(_number(amount) for amount in amounts)} |\n")
    return head + "|---" * 8 + "|\n" + "".join(rows)


def _cells(row: dict[str, Any]) -> list[str]:
    seconds = [_number(row[name]) for name in ("client_s", "server_s", "alone_s")]
    return [*seconds, f"{row['offload_ratio']:.2f}", *_sent(row), str(row["rounds"])]


def _sent(row: dict[str, Any]) -> list[str]:
    return [_number(row[name] / 1e9) for name in ("bytes_first", "bytes_later")]


def _number(amount: float) -> str:
    """Three digits, and thousands with commas."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"
