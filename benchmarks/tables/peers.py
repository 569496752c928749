"""The tables of `benchmarks/peers.py`: every peer at every convolution."""

from __future__ import annotations

from typing import Any

__all__ = ["peers_table"]

HEAD = "| | ms of CPU, all | client | server | over ours | up, down kB | keys kB | largest error | bits |"


def peers_table(figures: dict[str, Any]) -> str:
    """A summary, a table for each shape, and the settings of every peer."""
    rows = figures["peers"]
    keys = list(dict.fromkeys(row["key"] for row in rows))
    parts = [_summary(figures, keys)]
    for key in keys:
        here = [row for row in rows if row["key"] == key]
        parts.append(_shape(here, here[0]["shape"]))
    parts.append(_settings(rows))
    return "\n".join(parts)


def _summary(figures: dict[str, Any], keys: list[str]) -> str:
    ahead = [f"{figures[f'ahead_{key}']:.1f}" for key in keys if figures[f"ahead_{key}"] is not None]
    return (
        f"The fastest peer that counts takes {', '.join(ahead)} times our CPU time at the shapes below, in order. One thread, "
        f"medians of {figures['runs']} runs and more (fewer where one takes seconds), {figures['cpu']}, commit "
        f"{figures['commit']}; {figures['limit_s']:g} s of wall time for a peer and a shape.\n"
    )


def _shape(rows: list[dict[str, Any]], shape: str) -> str:
    ours = next((row["all_s"] for row in rows if row["peer"] == "hecompile bfv" and "reason" not in row), None)
    lines = [f"| {shape} {HEAD[2:]}\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"]
    for row in rows:
        if "reason" in row:
            lines.append(f"| {row['peer']} | {row['reason']} | | | | | | | |\n")
            continue
        star = " (scaled)" if row.get("extrapolated") else ""
        does_not_count = "" if row["counts"] or row["peer"] == "hecompile bfv" else " *"
        ratio = f"{row['all_s'] / ours:.1f}" if ours else ""
        seconds = f"{_ms(row['all_s'])}{star} | {_ms(row['client_s'])} | {_ms(row['server_s'])}"
        lines.append(
            f"| {row['peer']}{does_not_count} | {seconds} | {ratio} | "
            f"{_kb(row['up_bytes'])}, {_kb(row['down_bytes'])} | {_kb(row['key_bytes'])} | {row['largest_error']:.2g} | "
            f"{row['security_bits']:g} |\n"
        )
    return "".join(lines)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.2f}"


def _kb(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e3:,.0f}"


def _settings(rows: list[dict[str, Any]]) -> str:
    """What was set and what to know, shape by shape where it differs."""
    lines = ["| | settings | bits of security by | remarks |\n|---|---|---|---|\n"]
    for peer in dict.fromkeys(row["peer"] for row in rows):
        ran = [row for row in rows if row["peer"] == peer and "reason" not in row]
        if ran:
            settings = list(dict.fromkeys(row["settings"] for row in ran))
            remarks = list(dict.fromkeys([ran[0]["remark"], *(row["extrapolated"] for row in ran if row.get("extrapolated"))]))
            lines.append(f"| {peer} | {'<br>'.join(settings)} | {ran[0]['security_source']} | {'; '.join(remarks)} |\n")
    return "".join(lines)
