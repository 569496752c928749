"""Of `benchmarks/ckks.py` and `benchmarks/digits.py --backend ckks`."""

from __future__ import annotations

from typing import Any

__all__ = ["chains_table", "ckks_table"]


def ckks_table(found: dict[str, Any]) -> str:
    """Two operations beside TenSEAL."""
    rows = [
        ("convolution 16 to 16 channels, 3x3 on 8x8", "conv"),
        ("SiLU as a polynomial of degree 7", "act"),
    ]
    head = "| | hecompile | TenSEAL |\n|---|---|---|\n"
    cells = [
        f"| {name} | {found[f'{key}_ours_s'] * 1e3:.0f} ms | {found[f'{key}_tenseal_s'] * 1e3:.0f} ms |\n" for name, key in rows
    ]
    return head + "".join(cells) + f"\nBoth take {found['overhead']:.2f} times the seconds of their primitive operations alone.\n"


def chains_table(found: dict[str, Any]) -> str:
    """Digits under ckks, beside bfv."""
    rows = [
        ("one digit in ten steps", f"{found['encrypted_s']:.1f} s", f"{found['bfv_encrypted_s']:.1f} s"),
        ("rounds per step", f"{found['rounds_per_step']:.0f}", f"{found['bfv_rounds_per_step']:.0f}"),
        ("client's CPU seconds", f"{found['client_cpu_s']:.2f}", f"{found['bfv_client_cpu_s']:.2f}"),
        ("server's CPU seconds", f"{found['server_cpu_s']:.1f}", f"{found['bfv_server_cpu_s']:.1f}"),
        ("offload ratio", f"{found['offload_ratio']:.1f}", f"{found['bfv_offload_ratio']:.1f}"),
        ("evaluation keys", f"{found['key_bytes'] / 2**20:.0f} MiB", "none"),
    ]
    head = "| | ckks | bfv |\n|---|---|---|\n"
    quality = (
        f"\nSimulated on {found['samples']} samples: {found['psnr_db']:.1f} dB against float32, "
        f"{found['recognised_clear']:.1%} recognised. "
        f"Errors at the regions' boundaries reach {found['worst_error_over_bound']:.2f} of their predicted bound. "
        f"Compiling took {found['compile_s']:.0f} s.\n"
    )
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows) + quality
