"""What an artifact says of its regions, row by row: for `inspect` and the reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hecompile.artifact import Manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.registry import backend_of
from hecompile.ir.halves import ClientHalf

__all__ = ["RegionRow", "region_rows", "totals"]


@dataclass(frozen=True)
class RegionRow:
    """One region of the plan at batch one."""

    region: str
    domain: str
    inputs: int
    outputs: int
    backend: str = ""
    layers: int = 0
    parameters: str = ""
    proof: str = ""
    noise_bits: float = 0.0
    budget_bits: float = 0.0
    classical_bits: float = 0.0
    quantum_bits: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0
    values: tuple[str, ...] = ()  # names of what its layers make: their modules' paths with underscores, and the operation

    @property
    def room(self) -> str:
        """Noise and the room for it in bits; empty for backends whose library keeps that to itself."""
        return f"{self.noise_bits:.1f} / {self.budget_bits:.1f}" if self.budget_bits else ""

    @property
    def security(self) -> str:
        """Bits of the weakest layer's secrets, less log2 of how many share a seed; empty where they are not estimated."""
        return f"{self.classical_bits:.1f} (quantum {self.quantum_bits:.1f})" if self.classical_bits else ""


def region_rows(folder: Path, manifest: Manifest) -> list[RegionRow]:
    """The plan's steps in order, call regions with their parameters and bytes."""
    domain = "server_encrypted" if manifest.encrypted else "server (simulation)"
    rows = []
    for step in manifest.plan.steps:
        if step.kind == "client":
            rows.append(RegionRow(step.region, "client", len(step.inputs), len(step.outputs)))
            continue
        # files are read as they lie: while compiling there is no manifest yet to check them against
        import json

        from safetensors.numpy import load_file

        prefix = folder / "client" / step.region
        if manifest.files:
            half = read_client_half(folder, manifest.files, f"client/{step.region}")
        else:
            half = ClientHalf(json.loads(prefix.with_suffix(".json").read_bytes()), load_file(prefix.with_suffix(".safetensors")))
        chosen = backend_of(half)
        client, facts = chosen.load_client(half), chosen.describe(half)
        rows.append(
            RegionRow(
                step.region,
                domain,
                len(client.inputs),
                len(client.outputs),
                chosen.name,
                facts.layers,
                facts.parameters,
                facts.proof,
                facts.noise_bits,
                facts.budget_bits,
                facts.classical_bits,
                facts.quantum_bits,
                client.request_bytes(1),
                client.reply_bytes(1),
                step.outputs,
            )
        )
    return rows


def totals(rows: Sequence[RegionRow], manifest: Manifest) -> dict[str, object]:
    """Sums over one call of the model at batch one."""
    return {
        "rounds_per_step": manifest.plan.rounds,
        "encrypted_layers": sum(row.layers for row in rows),
        "bytes_up_per_step": sum(row.up_bytes for row in rows),
        "bytes_down_per_step": sum(row.down_bytes for row in rows),
        "security_bits": manifest.security_bits if manifest.encrypted else 0,
        "regions": [asdict(row) for row in rows],
    }
