"""What `inspect` shows of an artifact: how it is called, and its regions with parameters, proofs and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hecompile.artifact import Input, Manifest
from hecompile.artifact_modules import read_modules
from hecompile.ir.signature import Results, text_of
from hecompile.policies import WATERMARK
from hecompile.report.modules import folded
from hecompile.report.tables import RegionRow, region_rows, totals
from hecompile.report.terminal import GAP, plain_table, terminal
from hecompile.report.words import margin_text, shape_text
from hecompile.wording import byte_text

__all__ = ["call_lines", "inspection", "print_inspection"]

LEAST_LAYERS = 40  # columns of their names, without which they stand below the table


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
    return head | totals(_rows(folder, manifest), manifest)


def _rows(folder: Path, manifest: Manifest) -> list[RegionRow]:
    return region_rows(folder, manifest, read_modules(folder, manifest.files))


def call_lines(manifest: Manifest) -> Iterator[str]:
    """How the model is called, a line each: inputs with shapes, constants that were compiled in, and what it returns."""
    for spec in manifest.inputs:
        yield f"input {_input_text(spec)}"
    for constant in manifest.signature.constants:
        if not constant.optional:
            yield f"constant {text_of(constant.keyword)} = {constant.value!r}"
    yield f"returns {results_text(manifest.signature.results)}"


def _input_text(spec: Input) -> str:
    notes = [*(["public"] if spec.public else ["secret"]), *(["a condition"] if spec.per_run else [])]
    return f"{text_of(spec.keyword)}: {shape_text(spec.shape)}, {spec.dtype}, {', '.join(notes)}"


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
    """The same as a table and lines. Regions of the client stand in one line together: they send nothing."""
    rows = _rows(folder, manifest)
    calls = [row for row in rows if row.layers]
    console = terminal()
    columns = {
        "region": [row.region for row in calls],
        "parameters": [row.parameters for row in calls],
        "correct results": [margin_text(row) for row in calls],
        "security bits": [row.security for row in calls],
        "up": [byte_text(row.up_bytes) for row in calls],
        "down": [byte_text(row.down_bytes) for row in calls],
    }
    columns = {name: texts for name, texts in columns.items() if any(texts)}
    if console.width < _width(columns):  # parameters of a request in lines, and its proof below
        columns["parameters"] = [text.replace("; ", "\n") for text in columns["parameters"]]
        columns.pop("correct results", None)
    taken = _width(columns)
    title = f"{manifest.name}: policy {manifest.policy}, backend {manifest.backend}, largest batch {manifest.max_batch}"
    beside = console.width - taken >= LEAST_LAYERS
    table = plain_table(title, ("layers that the server runs", *columns) if beside else tuple(columns))
    for place, row in enumerate(calls):
        layers = [folded(row.label, console.width - taken - 1)] if beside else []
        table.add_row(*layers, *(texts[place] for texts in columns.values()))
    console.print(table)
    if not beside:
        for row in calls:
            console.print(f"{row.region}: {row.label}")
    proofs = Counter(row.proof for row in calls if row.proof)
    if proofs:
        console.print(f"proofs of correct results: {'; '.join(f'{proof} in {count} requests' for proof, count in proofs.items())}")
    sums = totals(rows, manifest)
    console.print(f"client: {len(rows) - len(calls)} regions of its own, between the requests")
    console.print(f"encrypted layers: {sums['encrypted_layers']}, in {sums['rounds_per_step']} requests in a row each step")
    console.print(f"bytes of a step: {sums['bytes_up_per_step']:,} up, {sums['bytes_down_per_step']:,} down")
    if manifest.encrypted:
        console.print(f"security: {sums['security_bits']} bits")
    for line in call_lines(manifest):
        console.print(line)
    for reveal in manifest.reveals:
        console.print(f"{WATERMARK}: {reveal}")
    if not manifest.encrypted:
        console.print("SIMULATION: nothing in this artifact is encrypted")


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Columns of a terminal that these of a table take."""
    return sum(GAP + max(len(line) for text in (name, *texts) for line in text.split("\n")) for name, texts in columns.items())
