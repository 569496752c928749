"""What `inspect` shows of an artifact: how it is called, and its regions with parameters, proofs and bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from hecompile.artifact import Input, Manifest
from hecompile.ir.signature import Results, text_of
from hecompile.policies import WATERMARK
from hecompile.report.tables import region_rows, totals

__all__ = ["call_lines", "inspection", "print_inspection"]


def inspection(folder: Path, manifest: Manifest) -> dict[str, object]:
    """Everything as one JSON object."""
    inputs = [
        {"keyword": text_of(spec.keyword), "shape": spec.shape, "dtype": spec.dtype, "public": spec.public, "per_run": spec.per_run}
        for spec in manifest.inputs
    ]
    constants = {text_of(constant.keyword): constant.value for constant in manifest.signature.constants}
    head: dict[str, object] = {
        "name": manifest.name, "policy": manifest.policy, "backend": manifest.backend, "encrypted": manifest.encrypted,
        "artifact": manifest.server, "reveals": manifest.reveals, "max_batch": manifest.max_batch, "inputs": inputs,
        "constants": constants, "results": results_text(manifest.signature.results),
    }  # fmt: skip
    return head | totals(region_rows(folder, manifest), manifest)


def call_lines(manifest: Manifest) -> Iterator[str]:
    """How the model is called, a line each: inputs with shapes, constants that were compiled in, and what it returns."""
    for spec in manifest.inputs:
        yield f"input {_input_text(spec)}"
    for constant in manifest.signature.constants:
        if not constant.optional:
            yield f"constant {text_of(constant.keyword)} = {constant.value!r}"
    yield f"returns {results_text(manifest.signature.results)}"


def _input_text(spec: Input) -> str:
    shape = " x ".join(map(str, spec.shape)) or "one number"
    notes = [*(["public"] if spec.public else ["secret"]), *(["a condition"] if spec.per_run else [])]
    return f"{text_of(spec.keyword)}: {shape}, {spec.dtype}, {', '.join(notes)}"


def results_text(results: Results) -> str:
    """The structure of results for people: `UNet2DOutput(sample)`, `(tensor, tensor)`."""
    if results.kind == "tensor":
        return "tensor"
    if results.kind == "constant":
        return repr(results.value)
    if results.kind == "output":
        return f"{results.name.rpartition(':')[2]}({', '.join(results.keys)})"
    items = [results_text(item) for item in results.items]
    if results.keys:
        return "{" + ", ".join(f"{key}: {item}" for key, item in zip(results.keys, items, strict=True)) + "}"
    return f"[{', '.join(items)}]" if results.kind == "list" else f"({', '.join(items)})"


def print_inspection(folder: Path, manifest: Manifest) -> None:
    """The same as a table and lines."""
    from rich.console import Console
    from rich.table import Table

    rows = region_rows(folder, manifest)
    table = Table(title=f"{manifest.name}: policy {manifest.policy}, backend {manifest.backend}, max batch {manifest.max_batch}")
    for column in ("region", "domain", "layers", "parameters", "proof", "noise/room", "bits", "up", "down"):
        table.add_column(column)
    for row in rows:
        details = [""] * 7
        if row.layers:
            details = [str(row.layers), row.parameters, row.proof, row.room, row.security]
            details += [f"{row.up_bytes:,}", f"{row.down_bytes:,}"]
        table.add_row(row.region, row.domain, *details)
    console = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width to fit into
    console.print(table)
    for key, value in totals(rows, manifest).items():
        if key != "regions":
            console.print(f"{key}: {value}", highlight=False)
    for line in call_lines(manifest):
        console.print(line, highlight=False, markup=False)
    for reveal in manifest.reveals:
        console.print(f"{WATERMARK}: {reveal}", highlight=False)
    if not manifest.encrypted:
        console.print("SIMULATION: nothing in this artifact is encrypted")
