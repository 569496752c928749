"""What an artifact says of its regions, row by row: for `inspect` and the reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hecompile.artifact import Manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.registry import backend_of
from hecompile.errors import ProtocolError
from hecompile.ir.modules import ModuleWork
from hecompile.report.modules import grouped

__all__ = ["RegionRow", "listed", "region_rows", "totals"]

MOST_VALUES = 3  # of a request that are listed


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
    modules: tuple[str, ...] = ()  # paths of its modules, one for each layer of a request; empty where the artifact keeps none
    told: tuple[str, ...] = ()  # names of public values that its request tells

    @property
    def label(self) -> str:
        """The region's modules as one line of text. If the artifact keeps no modules, the values that the region makes."""
        return grouped(self.modules) if any(self.modules) else listed(self.values) if self.values else self.region

    @property
    def security(self) -> str:
        """Bits of the weakest layer's secrets, less log2 of how many share a seed; empty where they are not estimated."""
        return f"{self.classical_bits:.1f} (quantum {self.quantum_bits:.1f})" if self.classical_bits else ""


def listed(values: Sequence[str]) -> str:
    """Names of values in a line, as many as can be taken in."""
    shown = values if len(values) <= MOST_VALUES else values[: MOST_VALUES - 1]
    more = [f"{len(values) - len(shown)} more"] if len(values) > len(shown) else []
    return ", ".join([*shown, *more])


def region_rows(folder: Path, manifest: Manifest, modules: Sequence[ModuleWork] = ()) -> list[RegionRow]:
    """The plan's steps in order, call regions with their parameters and bytes; with the modules that `read_modules` returned.

    Raises:
        ProtocolError: if a half is malformed, or if halves or modules do not fit what the manifest says.
    """
    if {work.region for work in modules} - {step.region for step in manifest.plan.steps}:
        raise ProtocolError(f"{folder}: modules.json names a region that the plan does not have")
    domain = "server_encrypted" if manifest.encrypted else "server (simulation)"
    rows, revealed = [], dict[str, None]()
    for step in manifest.plan.steps:
        if step.kind == "client":
            paths = tuple(work.path for work in modules if work.region == step.region)
            rows.append(RegionRow(step.region, "client", len(step.inputs), len(step.outputs), modules=paths))
            continue
        paths = tuple(work.path for work in modules if work.region == step.region for _ in range(work.layers))
        half = read_client_half(folder, manifest.files, f"client/{step.region}")
        scheme = backend_of(half)
        client, description = scheme.load_client(half), scheme.describe(half)
        revealed |= dict.fromkeys(description.reveals)
        if scheme.guarantee.encrypts != manifest.encrypted:
            raise ProtocolError(
                f"{folder}: region '{step.region}' is of '{scheme.name}', which does not fit what the manifest says"
            )
        rows.append(
            RegionRow(
                step.region,
                domain,
                len(client.inputs),
                len(client.outputs),
                scheme.name,
                description.layers,
                description.parameters,
                description.proof,
                description.noise_bits,
                description.budget_bits,
                description.classical_bits,
                description.quantum_bits,
                client.request_bytes(1),
                client.reply_bytes(1),
                step.outputs,
                paths,
                scheme.clear_inputs(half),
            )
        )
    if set(revealed) != set(manifest.reveals):
        said = ", ".join(manifest.reveals) or "nothing"
        raise ProtocolError(f"{folder}: the halves reveal {', '.join(revealed) or 'nothing'}, the manifest says {said}")
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
