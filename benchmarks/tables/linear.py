"""What every linear layer of Stable Diffusion 1.5 costs both sides, and every kernel's speed."""

from __future__ import annotations

from typing import Any

__all__ = ["linear_table"]

KERNELS = "| kernel, on a conv 320->320 at 64x64 | encrypt ns a coefficient | decrypt | GMAC/s of bytes | server over float32 |"
SHAPES = "| layer | there | float32 ms | client | server | form | q, t, X | blocks | up, down MB |"


def linear_table(figures: dict[str, Any]) -> str:
    """Sums first, then kernels, then every shape."""
    parts = [_totals(figures), _text(figures), _kernels(figures["kernels"]), _shapes(figures["shapes"])]
    return "\n".join(parts)


def _totals(figures: dict[str, Any]) -> str:
    exact = "Every value is the integer reference's, bit for bit." if figures["exact"] else "NOT every value is the reference's."
    return (
        f"All {figures['layers']} convolutions and linear layers of Stable Diffusion 1.5 that read secrets, as "
        f"{len(figures['shapes'])} shapes, batch {figures['batch']}, one thread on each side, "
        f"kernel `{figures['kernel']}`, {figures['cpu']}; random weights, medians of {figures['runs']} runs. "
        f"{exact} At least {figures['least_security_bits']} bits of security.\n\n"
        "| CPU seconds | float32 | client | server |\n|---|---:|---:|---:|\n"
        f"| all layers | {figures['float_total_s']:.2f} | {figures['client_total_s']:.2f} | {figures['server_total_s']:.2f} |\n"
        f"| over float32 | 1 | {figures['client_over_float']:.2f} | {figures['server_over_float']:.2f} |\n"
    )


def _text(figures: dict[str, Any]) -> str:
    threads, bytes_ = figures["two_threads"], [figures[name] / 1e9 for name in ("up_total_bytes", "down_total_bytes")]
    return (
        "The client's worst wide convolution (3x3, stride 1, 320 channels and more) takes "
        f"{figures['client_over_float_wide_worst']:.2f} of float32. The server's geometric mean over shapes is "
        f"{figures['server_over_float_geomean']:.1f} times float32, at worst {figures['server_over_float_worst']:.1f} with 256 "
        f"positions a sample and more, and {figures['server_over_float_worst_small']:.1f} with fewer. "
        f"{bytes_[0]:.2f} GB go up and {bytes_[1]:.2f} GB come down. A second thread makes the client {threads['client']:.2f} "
        f"and the server {threads['server']:.2f} times as fast (wall seconds of a conv 320->320 at 64x64).\n"
    )


def _kernels(kernels: dict[str, dict[str, float]]) -> str:
    rows = []
    for name, row in kernels.items():
        speeds = f"{row['encrypt_ns']:.1f} | {row['decrypt_ns']:.1f} | {row['gmac_per_s']:.0f}"
        rows.append(f"| `{name}` | {speeds} | {row['server_over_float']:.1f} |\n")
    return f"{KERNELS}\n|---|---:|---:|---:|---:|\n" + "".join(rows)


def _shapes(shapes: list[dict[str, Any]]) -> str:
    rows = []
    for row in shapes:
        ratios = f"{row['client_s'] / row['float_s']:.2f} | {row['server_s'] / row['float_s']:.1f}"
        ring = f"{row['q_bits']}, {row['t_bits']}, {row['limit']}"
        sent = f"{row['up_bytes'] / 1e6:.1f}, {row['down_bytes'] / 1e6:.1f}"
        start = f"| {row['layer']} | {row['count']} | {row['float_s'] * 1e3:.1f}"
        rows.append(f"{start} | {ratios} | {row['form']} | {ring} | {row['blocks']} | {sent} |\n")
    return f"{SHAPES}\n|---|---:|---:|---:|---:|---|---|---:|---:|\n" + "".join(rows)
