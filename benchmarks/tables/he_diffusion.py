"""Of `benchmarks/he_diffusion.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["he_diffusion_table"]


def he_diffusion_table(figures: dict[str, Any]) -> str:
    """The tables of `benchmarks/he_diffusion.py`: one step by every method, and ours over tau."""
    runs = figures["baseline_runs"]
    many = figures["shape"][0] * figures["shape"][1] * figures["shape"][2] / figures["per_scalar_scaled_from"]
    methods = [
        (f"one ciphertext per scalar (timed on {figures['per_scalar_scaled_from']}, scaled up)", runs["per_scalar"], many),
        ("packed dense, the paper's parameters", runs["packed_dense"], 1),
        ("packed dense, lighter parameters", runs["packed_dense_tuned"], 1),
        ("the same with e encrypted too, as in ours", runs["packed_dense_both_tuned"], 1),
        ("the paper's method, merged entry by entry", runs["paper"], 1),
        ("the paper's method, merged at once", runs["paper_vectorised_merge"], 1),
        ("**ours, mask chosen anew at every step**", figures["ours"], 1),
        ("ours, static mask", figures["ours_static"], 1),
        ("ours, everything encrypted", figures["ours_dense"], 1),
        ("plaintext", runs["plaintext"], 1),
    ]
    lines = ["| one step at tau 0.01 | median | CPU | CPU over ours | n |", "|---|---|---|---|---|"]
    for name, run, times in methods:
        wall, cpu = (times * run.get(key, run.get("step_s")) for key in ("median_s", "cpu_s"))
        shown = [f"{1e3 * value:,.0f} ms" if value > 1 else f"{1e3 * value:.3g} ms" for value in (wall, cpu)]
        ratio = cpu / figures["ours"]["cpu_s"]
        shown_ratio = f"{ratio:,.0f}" if ratio > 100 else f"{ratio:.2g}"
        lines.append(f"| {name} | {shown[0]} | {shown[1]} | {shown_ratio} | {run['n']} |")
    lines += [
        "",
        "| tau | support | encrypted per step | ever in the clear | CPU a step | up | down | PSNR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['tau']} | {row['support']} | {row['encrypted_share']:.1%} | {row['ever_clear_share']:.1%} | "
        f"{1e3 * row['cpu_s']:.1f} ms | {row['bytes_up']:,} | {row['bytes_down']:,} | {row['psnr_db']:.1f} dB |"
        for row in figures["sweep"]
    ]
    machine = figures["machine"]
    lines += [
        "",
        f"{figures['security_bits']} bits of security. {machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}.",
    ]
    return "\n".join(lines) + "\n"
