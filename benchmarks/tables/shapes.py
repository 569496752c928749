"""The README's table of one caption, from the figures of `benchmarks/shapes.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["captions_table"]


def captions_table(result: dict[str, Any]) -> str:
    """The table of `benchmarks/shapes.py`."""
    runs = result["encrypted_runs"]
    rows = [
        ("one caption, encrypted", f"{result['encrypted_s']:.2f} s ({runs['min_s']:.2f} to {runs['max_s']:.2f}, n = {runs['n']})"),
        ("one caption, plaintext", f"{result['plaintext_s']:.3f} s"),
        ("CPU seconds of client and server", f"{result['client_cpu_s']:.2f} and {result['server_cpu_s']:.2f}"),
        ("offload ratio", f"{result['offload_ratio']:.1f}"),
        ("rounds per step", f"{result['rounds_per_step']}"),
        ("bytes per caption, up and down", f"{result['bytes_up'] / 1e6:.1f} MB and {result['bytes_down'] / 1e6:.1f} MB"),
        ("keys at the server", f"{result['server_key_bytes']} bytes"),
        ("security", f"{result['security_bits']} bits"),
        (f"encrypted against simulated, {result['captions_encrypted']} captions", _equality(result)),
        ("PSNR against float32", f"{result['psnr_db']:.1f} dB"),
        (
            f"wholly right of {result['captions']} held-out captions, float32 and simulated",
            f"{result['float']['all']:.1%} and {result['clear']['all']:.1%}",
        ),
        ("machine", f"{result['machine']['cpu']}, {result['machine']['cores']} cores, commit {result['machine']['commit']}"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def _equality(result: dict[str, Any]) -> str:
    return "equal bit for bit" if result["bit_equal_to_clear"] else "DIFFERENT"
