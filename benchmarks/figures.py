"""Writes measured figures into the documents, from the JSON of the benchmarks: `python benchmarks/figures.py`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/costs.md", "docs/approximation.md")
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


def _db(value: float | None) -> str:
    """To a tenth; none where the pictures are no numbers."""
    return "none" if value is None else f"{value:.1f}"


def activations_table(found: dict[str, Any]) -> str:
    """The settings of `benchmarks/activations.py`."""
    head = (
        "| run by | norms | degrees | fit | total depth | PSNR (dB) | in torch (dB) | promised (dB) | recognised | out of range |"
    )
    rows = [
        f"| {row['backend']} | {row['norms']} | {_degrees(row)} | {row['fit'] or ''} | {row['depth']} | {_db(row['psnr_db'])} "
        f"| {_db(row['float_psnr_db'])} | {_db(row['promised_db'])} | {row['recognised']:.1%} | {row['excursions']} |\n"
        for row in found["settings"]
    ]
    machine = found["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}"
    table = f"{head}\n{'|---' * 10}|\n{''.join(rows)}"
    return f"{table}\n{found['samples']} samples, {found['steps']} steps; {where}\n"


def _degrees(row: dict[str, Any]) -> str:
    """How a setting chose them."""
    if not row["degrees"]:
        return "exact"
    if row["degree"] is not None:
        return f"{row['degree']}{', clamped' if row['clamp'] else ''}"
    least, most = min(row["degrees"]), max(row["degrees"])
    goal = f"budget {row['budget_db']:.0f} dB" if row["budget_db"] else "best of the depth"
    return f"{least} to {most}, {goal}"


def equal_depth_table(found: dict[str, Any]) -> str:
    """Degrees by the error budget against one degree everywhere."""
    rows = [f"| {row['norms']} | {row['depth']} | {row['degree']} | {row['gain_db']:+.1f} |\n" for row in found["equal_depth"]]
    return "| norms | total depth | one degree | gain of the error budget (dB) |\n|---|---|---|---|\n" + "".join(rows)


TABLES = {
    "digits": ("digits", digits_table),
    "activations": ("activations", activations_table),
    "depth": ("activations", equal_depth_table),
}


def fill(text: str) -> str:
    """The document with every block written anew."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        result, table = TABLES[name]
        found = json.loads((ROOT / "benchmarks" / "results" / f"{result}.json").read_text())
        return f"{match[1]}{table(found)}{match[3]}"

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
