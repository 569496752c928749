"""Loads the client's half of an artifact and checks it against what the client insists on (`hecompile.runtime.artifact_checks`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hecompile.artifact import Manifest, read_manifest
from hecompile.artifact_files import checked, read_client_half
from hecompile.backends.region_client import RegionClient
from hecompile.ir.signature import Keyword
from hecompile.policies import WATERMARK
from hecompile.runtime.artifact_checks import ArtifactChecks, Terms
from hecompile.runtime.check_onnx import check_onnx
from hecompile.runtime.local_region import LocalRegion

__all__ = ["Bundle", "load_bundle"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """Everything that the client needs to run a compiled model.

    `client_models` are the regions that the client computes itself, as ONNX models; `calls` encrypt for the server and decrypt its
    replies. `clear` lists the public inputs that requests reveal to the server. `places` gives, for every input that indexes a
    table, the number of the table's rows.
    """

    manifest: Manifest
    client_models: Mapping[str, LocalRegion]
    calls: Mapping[str, RegionClient]
    folder: Path
    clear: tuple[Keyword, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)


def load_bundle(
    folder: Path,
    policy_name: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
    *,
    public: Sequence[str] = (),
    backends: Sequence[str] = (),
    sampler: bool = False,
) -> Bundle:
    """Load the client's half of an artifact and check it.

    Args:
        policy_name: the policy that the client insists on, whatever the artifact says.
        security_bits: the least security that the client accepts, by its own table of lattice parameters.
        public: names of inputs that the server may see, besides `timestep` and `time_ids`.
        backends: names of backends from other packages that the caller knows and allows to compute.
        sampler: whether the artifact holds the step of a sampler, for `EncryptedScheduler`, and not a model.

    Raises:
        ProtocolError: if a file is missing, changed or malformed, or the artifact is weaker than what the client insists on.
    """
    manifest = read_manifest(folder)
    checks = ArtifactChecks(folder, manifest, Terms(policy_name, security_bits, frozenset(public), frozenset(backends), sampler))
    calls, client_models = dict[str, RegionClient](), dict[str, LocalRegion]()
    places = dict[str, int]()
    for step in manifest.plan.steps:
        prefix = f"client/{step.region}"
        if step.kind == "client":
            graph = check_onnx(checked(folder, manifest.files, f"{prefix}.onnx"), step.region, manifest.max_batch)
            checks.graph(step, graph)
            places |= {name: min(rows, places.get(name, rows)) for name, rows in graph.places.items()}
            client_models[step.region] = LocalRegion(graph.data, step.region, threads)
            continue
        half = read_client_half(folder, manifest.files, prefix)
        calls[step.region] = checks.region(step, half).load_client(half)
        checks.client(step, calls[step.region])
    clear = checks.finish()
    if manifest.reveals:
        LOG.warning(
            "%s: '%s' reveals parts of %d values to the server (see its manifest)", WATERMARK, manifest.name, len(manifest.reveals)
        )
    return Bundle(manifest, client_models, calls, folder, clear, places)
