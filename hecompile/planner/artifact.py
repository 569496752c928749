"""What the artifact in a folder will cost, from its client's half alone."""

from __future__ import annotations

from pathlib import Path

from hecompile.artifact import Manifest
from hecompile.artifact_files import checked, read_client_half
from hecompile.backends.registry import backend_of
from hecompile.ir.candidates import PartCost
from hecompile.machine import Machine
from hecompile.planner.local import LocalWork, onnx_work
from hecompile.planner.plan import Prediction, predict_regions

__all__ = ["local_works", "predict_manifest"]


def local_works(folder: Path, manifest: Manifest, batch: int = 1) -> dict[str, LocalWork]:
    """What each of the client's own regions computes, by its name."""
    return {
        step.region: onnx_work(checked(folder, manifest.files, f"client/{step.region}.onnx"), batch)
        for step in manifest.plan.steps
        if step.kind == "client"
    }


def predict_manifest(
    folder: Path, manifest: Manifest, machine: Machine, batch: int = 1, local: dict[str, LocalWork] | None = None
) -> Prediction:
    """Predict one call of an artifact, the client's own regions included.

    Args:
        local: what `local_works` returned for this batch, where it was asked already.

    Raises:
        CompileError: for regions of a backend without a cost model.
        ProtocolError: for files that are missing, changed or malformed.
    """
    works = local_works(folder, manifest, batch) if local is None else local
    parts = dict[str, list[PartCost]]()
    for step in manifest.plan.steps:
        if step.kind == "call":
            half = read_client_half(folder, manifest.files, f"client/{step.region}")
            parts[step.region] = backend_of(half).price(half, machine, batch)
    per_run = {step.region for step in manifest.plan.steps if step.per_run}
    return predict_regions(parts, machine, sum(works.values(), LocalWork()), per_run)
