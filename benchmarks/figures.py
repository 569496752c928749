"""Writes measured figures into the documents, from the JSON of the benchmarks: `python benchmarks/figures.py`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/costs.md", "docs/he-diffusion.md")
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)


def digits_table(found: dict[str, Any]) -> str:
    """The table of `benchmarks/digits.py`."""
    runs = found["encrypted_runs"]
    rows = [
        ("one digit, encrypted", f"{found['encrypted_s']:.2f} s ({runs['min_s']:.2f} to {runs['max_s']:.2f}, n = {runs['n']})"),
        ("one digit, plaintext", f"{found['plaintext_s']:.3f} s"),
        ("ten digits in one batch, encrypted", f"{found['ten_digits_encrypted_s']:.2f} s"),
        ("CPU seconds of client and server", f"{found['client_cpu_s']:.2f} and {found['server_cpu_s']:.2f}"),
        ("offload ratio", f"{found['offload_ratio']:.1f}"),
        ("rounds per step", f"{found['rounds_per_step']:.0f}"),
        ("bytes per step, up and down", f"{found['bytes_up_per_step']:,.0f} and {found['bytes_down_per_step']:,.0f}"),
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


def he_diffusion_table(found: dict[str, Any]) -> str:
    """The tables of `benchmarks/he_diffusion.py`: one step by every method, and ours over tau."""
    runs = found["baseline_runs"]
    many = found["shape"][0] * found["shape"][1] * found["shape"][2] / found["per_scalar_scaled_from"]
    methods = [
        (f"one ciphertext per scalar (timed on {found['per_scalar_scaled_from']}, scaled up)", runs["per_scalar"], many),
        ("packed dense, the paper's parameters", runs["packed_dense"], 1),
        ("packed dense, lighter parameters", runs["packed_dense_tuned"], 1),
        ("the same with e encrypted too, as in ours", runs["packed_dense_both_tuned"], 1),
        ("the paper's method, merged entry by entry", runs["paper"], 1),
        ("the paper's method, merged at once", runs["paper_vectorised_merge"], 1),
        ("**ours, mask chosen anew at every step**", found["ours"], 1),
        ("ours, static mask", found["ours_static"], 1),
        ("ours, everything encrypted", found["ours_dense"], 1),
        ("plaintext", runs["plaintext"], 1),
    ]
    lines = ["| one step at tau 0.01 | median | CPU | CPU over ours | n |", "|---|---|---|---|---|"]
    for name, run, times in methods:
        wall, cpu = (times * run.get(key, run.get("step_s")) for key in ("median_s", "cpu_s"))
        lines.append(f"| {name} | {1e3 * wall:,.3g} ms | {1e3 * cpu:,.3g} ms | {cpu / found['ours']['cpu_s']:,.3g} | {run['n']} |")
    lines += [
        "",
        "| tau | support | encrypted per step | ever in clear | CPU a step | up | down | PSNR |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['tau']} | {row['support']} | {row['encrypted_share']:.1%} | {row['ever_clear_share']:.1%} | "
        f"{1e3 * row['cpu_s']:.1f} ms | {row['bytes_up']:,} | {row['bytes_down']:,} | {row['psnr_db']:.1f} dB |"
        for row in found["sweep"]
    ]
    machine = found["machine"]
    lines += [
        "",
        f"{found['security_bits']} bits of security. {machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}.",
    ]
    return "\n".join(lines) + "\n"


TABLES = {"digits": digits_table, "he_diffusion": he_diffusion_table}


def fill(text: str) -> str:
    """The document with every block written anew."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        found = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        return f"{match[1]}{TABLES[name](found)}{match[3]}"

    return BLOCK.sub(block, text)


def main() -> None:
    """Fill all documents."""
    if "--smoke" in sys.argv:
        stale = [name for name in DOCUMENTS if fill((ROOT / name).read_text()) != (ROOT / name).read_text()]
        sys.stdout.write(json.dumps({"benchmark": "figures", "smoke": True, "stale": stale}) + "\n")
        sys.exit(1 if stale else 0)
    for name in DOCUMENTS:
        (ROOT / name).write_text(fill((ROOT / name).read_text()))


if __name__ == "__main__":
    main()
