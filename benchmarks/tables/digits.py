"""Of `benchmarks/digits.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["digits_table"]


def digits_table(figures: dict[str, Any]) -> str:
    """The table of `benchmarks/digits.py`."""
    runs = figures["encrypted_runs"]
    fresh, same = figures["fresh_seeds"], "the same picture" if figures["same_picture_with_fresh_seeds"] else "ANOTHER PICTURE"
    rows = [
        ("one digit, encrypted", f"{figures['encrypted_s']:.2f} s ({runs['min_s']:.2f} to {runs['max_s']:.2f}, n = {runs['n']})"),
        ("one digit, plaintext", f"{figures['plaintext_s']:.3f} s"),
        ("ten digits in one batch, encrypted", f"{figures['ten_digits_encrypted_s']:.2f} s"),
        ("CPU seconds of client and server", f"{figures['client_cpu_s']:.2f} and {figures['server_cpu_s']:.2f}"),
        ("offload ratio", f"{figures['offload_ratio']:.1f}"),
        ("rounds per step", f"{figures['rounds_per_step']:.0f}"),
        ("bytes per step, up and down", f"{figures['bytes_up_per_step']:,.0f} and {figures['bytes_down_per_step']:,.0f}"),
        (
            "with fresh seeds at every step (`--client-cache-mib 0`)",
            f"{fresh['encrypted_s']:.2f} s, CPU seconds {fresh['client_cpu_s']:.2f} and {fresh['server_cpu_s']:.2f}, bytes "
            f"{fresh['bytes_up_per_step']:,.0f} and {fresh['bytes_down_per_step']:,.0f}; {same}",
        ),
        ("keys at the server", f"{figures['server_key_bytes']} bytes"),
        ("security", f"{figures['security_bits']} bits"),
        ("encrypted against simulated", "equal bit for bit" if figures["bit_equal_to_clear"] else "DIFFERENT"),
        ("PSNR against float32", f"{figures['psnr_db']:.1f} dB"),
        (
            f"recognised of {figures['samples']} samples, float32 and simulated",
            f"{figures['recognised_float']:.1%} and {figures['recognised_clear']:.1%}",
        ),
        ("machine", f"{figures['machine']['cpu']}, {figures['machine']['cores']} cores, commit {figures['machine']['commit']}"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
