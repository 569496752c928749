"""Of `benchmarks/concrete.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["concrete_table"]


def concrete_table(figures: dict[str, Any]) -> str:
    """Beside Concrete ML called directly, and the largest region with lookups."""
    channels, size = figures["conv_size"]
    few, small = figures["act_size"]
    rows = [
        (f"convolution of {channels} channels on {size}x{size}", "conv"),
        (f"convolution and SiLU, {few} channels on {small}x{small}", "act"),
        (f"two convolutions and a skip, {few} channels on {small}x{small}", "stack"),
    ]
    head = "| | hecompile | Concrete ML | ratio |\n|---|---|---|---|\n"
    cells = [
        f"| {name} | {figures[f'{key}_ours_s']:.3g} s | {figures[f'{key}_direct_s']:.3g} s | {figures[f'{key}_ratio']:.3g} |\n"
        for name, key in rows
    ]
    channels, size = figures["chain_size"]
    keys, seconds = f"{figures['chain_key_bytes'] / 2**20:.0f} MiB of keys", f"{figures['chain_wall_s']:.0f} s on both cores"
    chain = (
        f"\nconv, SiLU, conv with {channels} channels on {size}x{size}: {figures['chain_lookups']} lookups, complexity "
        f"{figures['chain_complexity']:.2g}, {keys}, {figures['chain_predicted_cpu_s']:.0f} CPU seconds predicted, "
        f"{figures['chain_measured_cpu_s']:.0f} measured, {seconds}.\n"
    )
    return head + "".join(cells) + chain
