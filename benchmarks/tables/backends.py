"""Makes the table of docs/backends.md: seconds, bytes and keys of one digit under each backend that a benchmark measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["backends_table"]

RESULTS = Path(__file__).parents[1] / "results"


def _result(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return figures


def _row(name: str, figures: dict[str, Any], keys: int) -> str:
    """One digit in ten steps under a backend."""
    machine = figures["machine"]
    cells = (
        f"`{name}`",
        f"{figures['encrypted_s']:.2f} s",
        f"{figures['rounds_per_step']:.0f}",
        f"{figures['client_cpu_s']:.2f}",
        f"{figures['server_cpu_s']:.2f}",
        f"{(figures['bytes_up_per_step'] + figures['bytes_down_per_step']) / 1e6:.2f}",
        "none" if not keys else f"{keys / 2**20:.0f} MiB",
        f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}",
    )
    return f"| {' | '.join(cells)} |\n"


def backends_table(chains: dict[str, Any]) -> str:
    """Digits under `bfv` and `ckks` (`chains`, of `benchmarks/digits.py --backend ckks`), and a layer under `concrete`."""
    digits, concrete = _result("digits"), _result("concrete")
    channels, size = concrete["conv_size"]
    head = "| one digit in ten steps | wall | rounds a step | client CPU s | server CPU s | MB a step | keys | machine |\n"
    rows = _row("bfv", digits, digits["server_key_bytes"]) + _row("ckks", chains, chains["key_bytes"])
    outputs, side = concrete["act_size"]
    rest = (
        f"\n`concrete`, one convolution of {channels} channels on {size}x{size}: {concrete['conv_ours_s']:.2f} s. "
        f"`concrete_lookups`, convolution and activation of {outputs} channels on {side}x{side}: "
        f"{concrete['act_ours_s']:.1f} s, {concrete['act_lookups']} lookups, {concrete['act_key_bytes'] / 2**20:.0f} MiB of keys.\n"
        f"{concrete['machine']['cpu']}, {concrete['machine']['cores']} cores, commit {concrete['machine']['commit']}.\n"
    )
    return head + "|---|---|---|---|---|---|---|---|\n" + rows + rest
