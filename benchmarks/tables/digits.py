"""Of `benchmarks/digits.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["digits_table"]


def digits_table(found: dict[str, Any]) -> str:
    """The table of `benchmarks/digits.py`."""
    runs = found["encrypted_runs"]
    fresh, same = found["fresh_seeds"], "the same picture" if found["same_picture_with_fresh_seeds"] else "ANOTHER PICTURE"
    rows = [
        ("one digit, encrypted", f"{found['encrypted_s']:.2f} s ({runs['min_s']:.2f} to {runs['max_s']:.2f}, n = {runs['n']})"),
        ("one digit, plaintext", f"{found['plaintext_s']:.3f} s"),
        ("ten digits in one batch, encrypted", f"{found['ten_digits_encrypted_s']:.2f} s"),
        ("CPU seconds of client and server", f"{found['client_cpu_s']:.2f} and {found['server_cpu_s']:.2f}"),
        ("offload ratio", f"{found['offload_ratio']:.1f}"),
        ("rounds per step", f"{found['rounds_per_step']:.0f}"),
        ("bytes per step, up and down", f"{found['bytes_up_per_step']:,.0f} and {found['bytes_down_per_step']:,.0f}"),
        (
            "with fresh seeds at every step (`--client-cache-mib 0`)",
            f"{fresh['encrypted_s']:.2f} s, CPU seconds {fresh['client_cpu_s']:.2f} and {fresh['server_cpu_s']:.2f}, bytes "
            f"{fresh['bytes_up_per_step']:,.0f} and {fresh['bytes_down_per_step']:,.0f}; {same}",
        ),
        ("keys at the server", f"{found['server_key_bytes']} bytes"),
        ("security", f"{found['security_bits']} bits"),
        ("encrypted against simulated", "equal bit for bit" if found["bit_equal_to_clear"] else "DIFFERENT"),
        ("PSNR against float32", f"{found['psnr_db']:.1f} dB"),
        (
            f"recognised of {found['samples']} samples, float32 and simulated",
            f"{found['recognised_float']:.1%} and {found['recognised_clear']:.1%}",
        ),
        ("machine", f"{found['machine']['cpu']}, {found['machine']['cores']} cores, commit {found['machine']['commit']}"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
