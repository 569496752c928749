"""The tables of `benchmarks/scale.py` and `benchmarks/projection.py`."""

from __future__ import annotations

from statistics import median
from typing import Any

__all__ = ["projection_table", "scale_table"]


def scale_table(found: dict[str, Any]) -> str:
    """What workers did: median rates of all rounds, and what a killed worker and shards cost."""
    loads, killed, shards, machine = found["loads"], found["killed"], found["shards"], found["machine"]
    head = (
        "| workers of one thread | requests/s | of one worker | lost | wrong | busy cores: workers | front | generator | others |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    quotients = sorted(found["speedups"])
    speedup = f"{found['speedup']:.2f} ({quotients[0]:.2f} to {quotients[-1]:.2f}, n = {len(quotients)})"
    one, two = ([row for row in loads if row["workers"] == count] for count in (1, 2))
    rows = [_row("1", "1", one), _row("2", speedup, two), _row("2, one of them killed under load", "", [killed])]
    picture = {True: "the same, bit for bit", False: "NOT the same", None: "not drawn"}[found["picture_equal"]]
    return (
        f"{head}{''.join(rows)}\n"
        f"A core that workers kept busy did {_per_busy_core(one, two):.0%} with two of them of what it did with one. "
        f"Evaluated again after the kill: {killed['evaluated_again']:.0f}. One request at a time: {found['one_worker_s']:.2f} s by "
        f"one worker, {shards['seconds']:.2f} s by two shards ({shards['wrong']} wrong, {shards['lost']} lost). The front takes "
        f"{found['front_byte_ns']:.1f} ns of CPU a byte. {found['picture_steps']} steps of digits: {picture}. {machine['cpu']}, "
        f"{machine['cores']} cores, Ray {found['ray']}, commit {machine['commit']}.\n"
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


def projection_table(found: dict[str, Any]) -> str:
    """For many clients, and for one whose every evaluation is shared out."""
    slow, fast = found["network_gbit"]
    head = (
        f"| cores | many clients: forwards an hour | of these cores, fronts | Gbit/s to clients | one client: shards | workers s | "
        f"front s | a forward at {slow} Gbit/s, s (network) | at {fast} Gbit/s, s (network) | sent to shards, GB |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    rows = [
        f"| {row['cores']:,} | {row['forwards_per_hour']:,.0f} | {row['fronts']:.1f} | {row['gbit_per_s']:,.1f} | {row['shards']} "
        f"| {row['compute_s']:.1f} | {row['front_s']:.1f} | {_forwards(row, (slow, fast))} | {row['inside_gb']:,.1f} |\n"
        for row in found["rows"]
    ]
    gpu = found["gpu"]
    gpu_s, forwards = gpu["products_s"] + gpu["words_s"], _forwards(gpu, (slow, fast))
    rows.append(f"| one GPU, int8 | | | | 1 | {gpu_s:.2f} | {gpu['front_s']:.1f} | {forwards} | |\n")
    return (
        f"{head}{''.join(rows)}\n"
        f"`{found['model']}`, a forward under `strict`: {found['worker_s']:.0f} CPU seconds of workers, {found['front_s']:.1f} of "
        f"fronts ({found['front_byte_ns']:.1f} ns a byte, {found['front_byte_from']}), {found['client_s']:.1f} of the client; "
        f"{found['bytes_first'] / 1e9:.2f} GB in a run's first call, {found['bytes_later'] / 1e9:.2f} GB in later ones.\n"
    )


def _forwards(row: dict[str, Any], networks: tuple[int, int]) -> str:
    return " | ".join(f"{row[f'forward_s_{gbit}gbit']:.0f} ({row[f'network_share_{gbit}gbit']:.0%})" for gbit in networks)
