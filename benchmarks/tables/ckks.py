"""Of `benchmarks/ckks.py` and `benchmarks/digits.py --backend ckks`."""

from __future__ import annotations

from typing import Any

__all__ = ["chains_table", "ckks_table"]


def ckks_table(figures: dict[str, Any]) -> str:
    """Two operations beside TenSEAL."""
    rows = [
        ("convolution 16 to 16 channels, 3x3 on 8x8", "conv"),
        ("SiLU as a polynomial of degree 7", "act"),
    ]
    head = "| | hecompile | TenSEAL |\n|---|---|---|\n"
    cells = [
        f"| {name} | {figures[f'{key}_ours_s'] * 1e3:.0f} ms | {figures[f'{key}_tenseal_s'] * 1e3:.0f} ms |\n" for name, key in rows
    ]
    return head + "".join(cells) + f"\nBoth take {figures['overhead']:.2f} times the seconds of their primitive operations alone.\n"


def chains_table(figures: dict[str, Any]) -> str:
    """Digits under ckks, beside bfv."""
    rows = [
        ("one digit in ten steps", f"{figures['encrypted_s']:.1f} s", f"{figures['bfv_encrypted_s']:.1f} s"),
        ("rounds per step", f"{figures['rounds_per_step']:.0f}", f"{figures['bfv_rounds_per_step']:.0f}"),
        ("client's CPU seconds", f"{figures['client_cpu_s']:.2f}", f"{figures['bfv_client_cpu_s']:.2f}"),
        ("server's CPU seconds", f"{figures['server_cpu_s']:.1f}", f"{figures['bfv_server_cpu_s']:.1f}"),
        ("offload ratio", f"{figures['offload_ratio']:.1f}", f"{figures['bfv_offload_ratio']:.1f}"),
        ("evaluation keys", f"{figures['key_bytes'] / 2**20:.0f} MiB", "none"),
    ]
    head = "| | ckks | bfv |\n|---|---|---|\n"
    quality = (
        f"\nSimulated on {figures['samples']} samples: {figures['psnr_db']:.1f} dB against float32, "
        f"{figures['recognised_clear']:.1%} recognised. "
        f"Errors at the regions' boundaries reach {figures['worst_error_over_bound']:.2f} of their predicted bound. "
        f"Compiling took {figures['compile_s']:.0f} s.\n"
    )
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows) + quality
