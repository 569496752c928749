"""The tables of `benchmarks/scale.py` and `benchmarks/projection.py`."""

from __future__ import annotations

from statistics import median
from typing import Any

__all__ = ["projection_table", "scale_table"]


def scale_table(figures: dict[str, Any]) -> str:
    """What workers did: median rates of all rounds, and what a killed worker and shards cost."""
    loads, killed, shards, machine = figures["loads"], figures["killed"], figures["shards"], figures["machine"]
    head = (
        "| workers of one thread | requests/s | of one worker | lost | wrong | busy cores: workers | front | generator | others |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    quotients = sorted(figures["speedups"])
    speedup = f"{figures['speedup']:.2f} ({quotients[0]:.2f} to {quotients[-1]:.2f}, n = {len(quotients)})"
    one, two = ([row for row in loads if row["workers"] == count] for count in (1, 2))
    rows = [_row("1", "1", one), _row("2", speedup, two), _row("2, one of them killed under load", "", [killed])]
    picture = {True: "the same, bit for bit", False: "NOT the same", None: "not drawn"}[figures["picture_equal"]]
    return (
        f"{head}{''.join(rows)}\n"
        f"A core that workers kept busy did {_per_busy_core(one, two):.0%} with two of them of what it did with one. "
        f"Evaluated again after the kill: {killed['evaluated_again']:.0f}. One request at a time: {figures['one_worker_s']:.2f} s "
        f"by one worker, {shards['seconds']:.2f} s by two shards ({shards['wrong']} wrong, {shards['lost']} lost). The front "
        f"takes {figures['front_byte_ns']:.1f} ns of CPU a byte. {figures['picture_steps']} steps of digits: {picture}. "
        f"{machine['cpu']}, {machine['cores']} cores, Ray {figures['ray']}, commit {machine['commit']}.\n"
    )


def _per_busy_core(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> float:
    """Requests by CPU second of the workers, of two as a share of those of one: medians over the rounds."""
    first, second = (median(row["requests_per_s"] / row["workers_cpu_share"] for row in rows) for rows in (one, two))
    return float(second / first)


def _row(name: str, speedup: str, rows: list[dict[str, Any]]) -> str:
    rate = median(row["requests_per_s"] for row in rows)
    shares = [median(row[f"{who}_cpu_share"] for row in rows) for who in ("workers", "front", "generator", "others")]
    lost, wrong = (sum(row[key] for row in rows) for key in ("lost", "wrong"))
    busy = " | ".join(f"{share:.2f}" for share in shares)
    return f"| {name} | {rate:.2f} | {speedup} | {lost} | {wrong} | {busy} |\n"


def projection_table(figures: dict[str, Any]) -> str:
    """Return the table of what is computed from measured prices, as Markdown.

    Each row has a number of cores, the forwards an hour of many clients there, and the seconds of one client's forward when its
    evaluations are divided into shards. The last row is one GPU.
    """
    slow, fast = figures["network_gbit"]
    head = (
        f"| cores | many clients: forwards an hour | of these cores, fronts | Gbit/s to clients | one client: shards | workers s | "
        f"front s | a forward at {slow} Gbit/s, s (network) | at {fast} Gbit/s, s (network) | sent to shards, GB |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    rows = [
        f"| {row['cores']:,} | {row['forwards_per_hour']:,.0f} | {row['fronts']:.1f} | {row['gbit_per_s']:,.1f} | {row['shards']} "
        f"| {row['compute_s']:.1f} | {row['front_s']:.1f} | {_forwards(row, (slow, fast))} | {row['inside_gb']:,.1f} |\n"
        for row in figures["rows"]
    ]
    gpu = figures["gpu"]
    gpu_s, forwards = gpu["products_s"] + gpu["words_s"], _forwards(gpu, (slow, fast))
    rows.append(f"| one GPU, int8 | | | | 1 | {gpu_s:.2f} | {gpu['front_s']:.1f} | {forwards} | |\n")
    return (
        f"{head}{''.join(rows)}\n"
        f"`{figures['model']}`, a forward under `strict`: {figures['worker_s']:.0f} CPU seconds of workers, "
        f"{figures['front_s']:.1f} of fronts ({figures['front_byte_ns']:.1f} ns a byte, {figures['front_byte_from']}), "
        f"{figures['client_s']:.1f} of the client; {figures['bytes_first'] / 1e9:.2f} GB in a run's first call, "
        f"{figures['bytes_later'] / 1e9:.2f} GB in later ones.\n"
    )


def _forwards(row: dict[str, Any], networks: tuple[int, int]) -> str:
    return " | ".join(f"{row[f'forward_s_{gbit}gbit']:.0f} ({row[f'network_share_{gbit}gbit']:.0%})" for gbit in networks)
